"""Which checkpoint is the latest, from the files that a chief, or any Saver, leaves."""

import os
import threading
from pathlib import Path

import pytest

from runner.checkpoint.evaluations import record_evaluation
from runner.checkpoint.fence import Fence
from runner.checkpoint.listing import CheckpointFollower, latest_checkpoint, list_checkpoints, survey_checkpoints
from runner.checkpoint.retention import Retention
from runner.errors import CheckpointNotFoundError, StorageError
from runner.storage.directory import Directory
from runner.storage.urls import open_directory
from tests.checkpoint.writers import save, write_objects


@pytest.fixture(params=["local", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    return open_directory(str(tmp_path) if request.param == "local" else f"memory:/{tmp_path}")


def chief_of(directory: Directory, generation: int = 1, *, keep: int = 5) -> Fence:
    fence = Fence(directory, owner="job-a", generation=generation, retention=Retention(keep), code="c0de")
    fence.raise_()
    return fence


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


def test_a_checkpoint_is_listed_with_all_that_is_known_of_it(directory: Directory) -> None:
    chief = chief_of(directory, 3)
    save(chief, 1, shards=2)
    save(chief, 2)
    record_evaluation(directory, "model.ckpt-1", {"accuracy": 0.5}, name="eval_other")
    record_evaluation(directory, "model.ckpt-1", {"accuracy": 0.75, "loss": float("nan")})

    first, second = list_checkpoints(directory.url)

    assert (first.step, first.prefix, first.shards) == (1, f"{directory.url}/model.ckpt-1", 2)
    assert (first.generation, first.code, first.metrics["accuracy"]) == (3, "c0de", 0.75)
    assert first.size_bytes == sum(entry.size_bytes for entry in directory.list() if "ckpt-1." in entry.name)
    assert (first.latest, second.latest) == (False, True)
    assert second.metrics == {}


def test_a_survey_tells_the_truth_of_every_checkpoint(directory: Directory) -> None:
    chief = chief_of(directory)
    for step in (1, 2, 3, 4, 5):
        save(chief, step)
    write_objects(chief, 6)
    directory.write_bytes("model.ckpt-7.data-00000-of-00002", b"torn")
    directory.delete("model.ckpt-1.data-00000-of-00001")
    directory.write_bytes("model.ckpt-2.data-00000-of-00001", b"another")
    directory.write_bytes("model.ckpt-3.data-00000-of-00001", b"cut")
    for part in ("index", "meta", "data-00000-of-00001"):
        directory.delete(f"model.ckpt-4.{part}")

    states = {info.step: (info.state, info.shards) for info in survey_checkpoints(directory.url)}

    assert states == {
        1: ("damaged", 0),
        2: ("complete", 1),  # as long as it was: only reading all of it would tell
        3: ("damaged", 1),
        4: ("damaged", 0),
        5: ("complete", 1),
        6: ("orphan", 1),
        7: ("orphan", 0),
    }
    assert [info.step for info in list_checkpoints(directory.url)] == [2, 5]


def test_shards_that_another_division_left_do_not_damage_a_checkpoint(directory: Directory) -> None:
    save(chief_of(directory), 1)
    directory.write_bytes("model.ckpt-1.data-00001-of-00002", b"of a dead generation")

    assert [(info.state, info.shards) for info in list_checkpoints(directory.url)] == [("complete", 1)]
    assert latest_checkpoint(directory.url) == f"{directory.url}/model.ckpt-1"


def test_a_follower_sees_what_is_published(directory: Directory) -> None:
    follower = CheckpointFollower(directory.url)
    assert follower.poll() is None

    chief = chief_of(directory, keep=1)
    write_objects(chief, 1)
    assert follower.poll() == f"{directory.url}/model.ckpt-1"  # nothing tells that it is not published
    chief.publish("model.ckpt-1")
    assert follower.poll() == f"{directory.url}/model.ckpt-1"
    write_objects(chief, 2)
    assert follower.poll() == f"{directory.url}/model.ckpt-1"
    chief.publish("model.ckpt-2")

    assert follower.poll() == follower.poll() == f"{directory.url}/model.ckpt-2"


def test_a_follower_that_could_not_look_at_a_checkpoint_looks_again(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.symlink_to(folder)  # which cannot be listed
    publish(tmp_path, f"{folder}/model.ckpt-1")
    follower = CheckpointFollower(str(tmp_path))
    with pytest.raises(StorageError, match="list"):
        follower.poll()

    folder.unlink()
    write_checkpoint(folder / "model.ckpt-1")

    assert follower.poll() == f"{folder}/model.ckpt-1"


def test_a_model_dir_that_is_only_claimed_has_no_checkpoint(directory: Directory) -> None:
    directory.write_bytes("model.ckpt-1.data-00000-of-00001", b"of a chief that was killed")
    write_objects(chief_of(directory), 1)

    assert latest_checkpoint(directory.url) is None
    assert list_checkpoints(directory.url) == []


def test_a_follower_warns_once_of_a_lost_checkpoint_file(
    directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    save(chief_of(directory), 1)
    follower = CheckpointFollower(directory.url)
    follower.poll()
    directory.delete("checkpoint")

    assert follower.poll() == follower.poll() == f"{directory.url}/model.ckpt-1"

    assert caplog.text.count("has no `checkpoint` file") == 1
