"""Checkpoints of the input in a directory that TensorFlow cannot open."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.errors import ModelDirInUseError, StorageError
from runner.estimator.hooks.input_checkpoint import CheckpointInputPipelineHook
from runner.estimator.hooks.input_files import RemoteInputFiles
from runner.estimator.hooks.progress_hook import publish_progress
from runner.estimator.session import HookedSession
from runner.storage.local_directory import LocalDirectory
from runner.storage.urls import open_directory

v1 = tf.compat.v1


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4()}/model"


def hook_of(url: str, **config: Any) -> CheckpointInputPipelineHook:
    config = {"save_checkpoints_steps": 2, **config}
    return CheckpointInputPipelineHook(tfe.Estimator(lambda features: None, url, tfe.RunConfig(**config)))  # type: ignore[arg-type,return-value]


def read(hook: Any, steps: int, *, start: int = 0, then: Callable[[], object] = lambda: None) -> list[int]:
    """What a training reads of 0, 1, 2... in so many steps, from a step on, before `then` is called."""
    with tf.Graph().as_default():
        iterator = v1.data.make_initializable_iterator(tf.data.Dataset.range(20))
        step = v1.train.create_global_step()
        value = iterator.get_next()
        with tf.control_dependencies([step.assign_add(1)]):
            publish_progress(step.read_value(), None)
        hook.begin()
        session = v1.Session()
        session.run([iterator.initializer, step.initializer])
        session.run(step.assign(start))
        with HookedSession(session, [hook]) as hooked:
            values = [int(hooked.run(value)) for _ in range(steps)]
            then()
    return values


def crash() -> None:
    raise ZeroDivisionError


def names_in(url: str) -> list[str]:
    return [entry.name for entry in open_directory(url).list()]


def files_of(*steps: int) -> list[str]:
    parts = ("data-00000-of-00001", "index")
    return sorted(["checkpoint_input", *(f"input.ckpt-{step}.{part}" for step in steps for part in parts)])


def test_it_goes_on_where_it_was(url: str) -> None:
    assert read(hook_of(url), 3) == [0, 1, 2]
    assert read(hook_of(url), 3, start=3) == [3, 4, 5]

    assert names_in(url) == files_of(2, 3, 4, 5, 6)


def test_it_goes_on_from_the_step_of_the_model_after_a_crash(url: str) -> None:
    with pytest.raises(ZeroDivisionError):
        read(hook_of(url), 5, then=crash)

    assert read(hook_of(url), 3, start=4) == [4, 5, 6]


def test_without_a_checkpoint_of_that_step_it_goes_on_from_the_latest(
    url: str, info_log: pytest.LogCaptureFixture
) -> None:
    read(hook_of(url), 3)

    assert read(hook_of(url), 1, start=7) == [3]
    assert "The input has no checkpoint of step 7; it goes on from that of step 3." in info_log.text


def test_as_many_are_kept_as_of_the_model_also_of_earlier_runs(url: str) -> None:
    for start in (0, 3, 6):
        read(hook_of(url, keep_checkpoint_max=2), 3, start=start)

    assert names_in(url) == files_of(8, 9)


def test_a_training_whose_successor_has_saved_stops_and_replaces_nothing(url: str) -> None:
    contents: list[bytes] = []

    def succeed() -> None:
        read(hook_of(url), 3, start=2)
        contents.extend(open_directory(url).read_bytes(name) for name in names_in(url))

    with pytest.raises(ModelDirInUseError, match=r"Another process has written checkpoint_input in memory://"):
        read(hook_of(url), 3, then=succeed)

    assert [open_directory(url).read_bytes(name) for name in names_in(url)] == contents
    assert read(hook_of(url), 1, start=5) == [5]


def test_what_an_outage_kept_back_is_uploaded_with_the_next(tmp_path: Path) -> None:
    model_dir = tmp_path / "model"
    files = RemoteInputFiles(LocalDirectory(str(model_dir)), "input")
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("position", [], initializer=v1.zeros_initializer())
        session.run(variable.initializer)
        saver = v1.train.Saver(save_relative_paths=True)

        def save(step: int) -> None:
            saver.save(session, files.basename, step, latest_filename=files.state_name, write_meta_graph=False)
            files.publish()

        model_dir.write_text("in the way of the directory")  # as if the store failed
        with pytest.raises(StorageError):
            save(1)
        model_dir.unlink()
        save(2)

    assert sorted(path.name for path in model_dir.iterdir() if path.is_file()) == files_of(1, 2)
    assert tf.train.load_checkpoint(str(model_dir / "input.ckpt-1")).has_tensor("position")


def test_no_scratch_files_stay(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files = RemoteInputFiles(open_directory(url), "input")
    assert [path.name for path in tmp_path.iterdir()] == [Path(files.folder).name]

    del files

    assert not [*tmp_path.iterdir()]
