"""Which checkpoint a training goes on from, by what is in its model_dir."""

import logging
from pathlib import Path

import pytest

from runner.checkpoint.selection import Selected, restorable, select
from runner.errors import CheckpointDamagedError, CheckpointError, CheckpointPathError, StoreUnavailableError


def make_checkpoints(model_dir: Path, *steps: int, latest: int | None) -> list[str]:
    """Files with the names of checkpoints, and a `checkpoint` that names one of them."""
    for step in steps:
        (model_dir / f"model.ckpt-{step}.index").touch()
        (model_dir / f"model.ckpt-{step}.data-00000-of-00001").touch()
    if latest is not None:
        (model_dir / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{latest}"\n')
    return [f"{model_dir}/model.ckpt-{step}" for step in steps]


def test_the_latest_is_followed_by_the_earlier_ones(tmp_path: Path) -> None:
    first, second, third = make_checkpoints(tmp_path, 9, 10, 200, latest=200)

    assert restorable(str(tmp_path)) == [third, second, first]


def test_what_was_never_published_is_not_gone_on_from(tmp_path: Path) -> None:
    first, second, _ = make_checkpoints(tmp_path, 9, 10, 200, latest=10)

    assert restorable(str(tmp_path)) == [second, first]


def test_a_latest_without_files_is_still_the_first_to_be_tried(tmp_path: Path) -> None:
    first, _ = make_checkpoints(tmp_path, 9, 10, latest=10)
    (tmp_path / "model.ckpt-10.index").unlink()

    assert restorable(str(tmp_path)) == [f"{tmp_path}/model.ckpt-10", first]


def test_without_a_checkpoint_file_the_newest_complete_ones_are_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make_checkpoints(tmp_path, 9, 10, latest=None)

    assert restorable(str(tmp_path)) == [second, first]
    assert "has no `checkpoint` file" in caplog.text


@pytest.mark.parametrize("error", [CheckpointDamagedError, CheckpointPathError])
def test_damaged_checkpoints_are_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: type[Exception]
) -> None:
    first, second, third = make_checkpoints(tmp_path, 1, 2, 3, latest=3)

    def load(prefix: str) -> str:
        if prefix in (second, third):
            raise error(f"{prefix} has a flipped byte.")
        return f"state of {prefix}"

    selected = select(str(tmp_path), load)

    assert selected == Selected(f"state of {first}", (third, second))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [third in warnings[0], second in warnings[1], first in warnings[2]] == [True, True, True]
    assert "has a flipped byte" in warnings[0]


def test_an_outage_is_no_damage(tmp_path: Path) -> None:
    make_checkpoints(tmp_path, 1, 2, latest=2)
    tried = []

    def load(prefix: str) -> None:
        tried.append(prefix)
        raise StoreUnavailableError("The store does not answer.")

    with pytest.raises(StoreUnavailableError):
        select(str(tmp_path), load)

    assert tried == [f"{tmp_path}/model.ckpt-2"]


def test_if_all_are_damaged_the_training_does_not_begin_anew(tmp_path: Path) -> None:
    make_checkpoints(tmp_path, 1, 2, latest=2)

    def load(prefix: str) -> None:
        raise CheckpointDamagedError(f"{prefix} has a flipped byte.")

    with pytest.raises(CheckpointError, match=r"No checkpoint in .*ckpt-2 has a flipped byte.*ckpt-1 has a flipped"):
        select(str(tmp_path), load)


def test_an_empty_model_dir_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert select(str(tmp_path / "missing"), str) is None
