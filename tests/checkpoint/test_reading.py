"""A checkpoint read by its prefix, also while retention deletes it."""

from pathlib import Path

import pytest

from runner.checkpoint.reading import find_checkpoint, open_checkpoint, read_newest
from runner.errors import CheckpointDamagedError, CheckpointNotFoundError, CheckpointPathError


def make_checkpoint(model_dir: Path, step: int) -> str:
    prefix = f"{model_dir}/model.ckpt-{step}"
    Path(f"{prefix}.index").touch()
    Path(f"{prefix}.data-00000-of-00001").touch()
    (model_dir / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{step}"\n')
    return prefix


def test_a_reader_that_finds_its_checkpoint_gone_reads_the_newest(tmp_path: Path) -> None:
    first, second = make_checkpoint(tmp_path, 1), make_checkpoint(tmp_path, 2)

    def read(prefix: str) -> str:
        if prefix == first:
            Path(f"{first}.index").unlink()
            raise CheckpointNotFoundError("It was deleted while it was read.")
        return prefix

    assert read_newest(first, latest=lambda: second, read=read) == second


def damaged(prefix: str) -> str:
    raise CheckpointDamagedError(f"{prefix} has a flipped byte.")


def gone(prefix: str) -> str:
    Path(f"{prefix}.index").unlink(missing_ok=True)
    raise CheckpointNotFoundError(f"{prefix} is gone.")


def test_a_reader_that_finds_its_checkpoint_damaged_reads_no_other(tmp_path: Path) -> None:
    first, second = make_checkpoint(tmp_path, 1), make_checkpoint(tmp_path, 2)

    with pytest.raises(CheckpointDamagedError, match="ckpt-1 has a flipped byte"):
        read_newest(first, latest=lambda: second, read=damaged)


@pytest.mark.parametrize("newest", [None, "the same"])
def test_a_reader_without_a_newer_checkpoint_says_what_it_missed(tmp_path: Path, newest: str | None) -> None:
    first = make_checkpoint(tmp_path, 1)

    with pytest.raises(CheckpointNotFoundError, match="ckpt-1 is gone"):
        read_newest(first, latest=lambda: newest and first, read=gone)


@pytest.mark.parametrize("prefix", ["/nonexistent/model.ckpt-1", "", "/", "s3://"])
def test_a_path_without_a_checkpoint_is_refused_as_by_tensorflow(prefix: str) -> None:
    with pytest.raises(CheckpointPathError, match=f"^The passed save_path is not a valid checkpoint: {prefix}$"):
        open_checkpoint(prefix)


def test_a_directory_stands_for_its_latest_checkpoint(tmp_path: Path) -> None:
    prefix = make_checkpoint(tmp_path, 7)

    assert find_checkpoint(str(tmp_path)) == find_checkpoint(f"{tmp_path}/") == find_checkpoint(prefix) == prefix


def test_a_directory_without_a_checkpoint_stands_for_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointPathError, match=f"Couldn't find 'checkpoint' file .* {tmp_path}"):
        find_checkpoint(str(tmp_path))
