"""Which checkpoint is the latest, from the files that a chief, or any Saver, leaves."""

import os
import threading
from pathlib import Path

import pytest

from runner.checkpoint.listing import latest_checkpoint, list_checkpoints
from runner.errors import CheckpointNotFoundError


def write_checkpoint(prefix: Path) -> None:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("data-00000-of-00002", "data-00001-of-00002", "index"):
        prefix.with_name(f"{prefix.name}.{suffix}").touch()


def publish(model_dir: Path, text: str) -> None:
    model_dir.mkdir(parents=True, exist_ok=True)
    (model_dir / "checkpoint.tmp").write_text(f'model_checkpoint_path: "{text}"\n')
    os.replace(model_dir / "checkpoint.tmp", model_dir / "checkpoint")


def test_a_chief_that_saves_meanwhile_and_keeps_one_is_no_error(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model.ckpt-0")
    publish(tmp_path, "model.ckpt-0")
    ended = threading.Event()

    def save() -> None:
        for step in range(1, 1500):
            write_checkpoint(tmp_path / f"model.ckpt-{step}")
            publish(tmp_path, f"model.ckpt-{step}")
            for path in tmp_path.glob(f"model.ckpt-{step - 1}.*"):
                path.unlink()
        ended.set()

    chief = threading.Thread(target=save)
    chief.start()
    found = []
    while not ended.is_set():
        found.append(latest_checkpoint(str(tmp_path)))
    chief.join()

    assert None not in found
    assert latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-1499")


def test_an_absolute_path_is_the_latest_from_every_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_dir = tmp_path / "model"
    write_checkpoint(model_dir / "model.ckpt-7")
    publish(model_dir, str(model_dir / "model.ckpt-7"))
    monkeypatch.chdir(tmp_path)

    assert latest_checkpoint("model") == str(model_dir / "model.ckpt-7")
    assert [info.latest for info in list_checkpoints("model")] == [True]


def test_a_checkpoint_of_another_directory_or_without_a_step_is_found(tmp_path: Path) -> None:
    model_dir = tmp_path / "model"
    write_checkpoint(tmp_path / "elsewhere" / "best")

    publish(model_dir, str(tmp_path / "elsewhere" / "best"))
    absolute = latest_checkpoint(str(model_dir))
    publish(model_dir, "../elsewhere/best")
    relative = latest_checkpoint(str(model_dir))

    assert absolute == str(tmp_path / "elsewhere" / "best")
    assert relative == f"{model_dir}/../elsewhere/best"


@pytest.mark.parametrize("text", ["m\u00f6dell-1", "m\\303\\266dell-1"])
def test_a_name_beyond_ascii_is_read_as_both_kinds_of_writers_put_it(tmp_path: Path, text: str) -> None:
    write_checkpoint(tmp_path / "m\u00f6dell-1")
    publish(tmp_path, text)

    assert latest_checkpoint(str(tmp_path)) == str(tmp_path / "m\u00f6dell-1")


@pytest.mark.parametrize("lost", ["index", "data-00001-of-00002"])
def test_a_checkpoint_that_lacks_a_file_is_an_error(tmp_path: Path, lost: str) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path / f"model.ckpt-{step}")
    publish(tmp_path, "model.ckpt-2")
    (tmp_path / f"model.ckpt-2.{lost}").unlink()

    with pytest.raises(CheckpointNotFoundError, match=r"names .*model\.ckpt-2, but .* complete steps: \[1\]"):
        latest_checkpoint(str(tmp_path))
