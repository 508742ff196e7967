"""Who may write checkpoints into a model_dir, one writer after the other."""

import logging
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import tensorflow as tf
from fsspec.registry import _registry as registered

from runner.checkpoint.commits import read_commit
from runner.checkpoint.fence import Fence, reached_generation
from runner.checkpoint.retention import Retention
from runner.checkpoint.state import CheckpointState, parse_state
from runner.errors import (
    CheckpointExistsError,
    CheckpointNotFoundError,
    CheckpointSupersededError,
    ModelDirInUseError,
    StaleGenerationError,
)
from runner.storage.directory import Directory
from runner.storage.urls import open_directory
from tests.checkpoint.writers import files_of, save, steps_in, write_objects
from tests.storage.test_fsspec_directory import DiskFileSystem


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return open_directory(str(tmp_path))


def fence(directory: Directory, generation: int | None = None, *, owner: str = "job-a", keep: int | None = 5) -> Fence:
    return Fence(directory, owner=owner, generation=generation, retention=Retention(keep))


def raised(directory: Directory, generation: int | None = None, *, owner: str = "job-a", keep: int | None = 5) -> Fence:
    made = fence(directory, generation, owner=owner, keep=keep)
    made.raise_()
    return made


def state_of(directory: Directory) -> CheckpointState:
    return parse_state(directory.read_bytes("checkpoint"))


def test_a_fresh_model_dir_gets_its_checkpoint_file_with_the_first_publish(directory: Directory) -> None:
    chief = fence(directory, 1)

    assert chief.raise_() is None
    assert directory.list() == []
    save(chief, 0)

    assert [entry.name for entry in directory.list()] == ["checkpoint", *files_of(0)]
    assert state_of(directory).latest == "model.ckpt-0"
    assert reached_generation(directory) == 1
    assert (chief.generation, chief.previous_owner) == (1, None)


def test_tensorflow_reads_what_is_published(directory: Directory) -> None:
    chief = raised(directory, 1)
    save(chief, 1)
    save(chief, 2)

    state = tf.train.get_checkpoint_state(directory.url)

    assert state.model_checkpoint_path == f"{directory.url}/model.ckpt-2"
    assert list(state.all_model_checkpoint_paths) == [f"{directory.url}/model.ckpt-{step}" for step in (1, 2)]
    assert len(state.all_model_checkpoint_timestamps) == 2
    assert tf.train.latest_checkpoint(directory.url) == f"{directory.url}/model.ckpt-2"


def test_a_commit_tells_who_wrote_a_checkpoint_and_what_it_consists_of(directory: Directory) -> None:
    chief = Fence(directory, owner="job-a", generation=4, code="c0de", clock=lambda: 1795384000.5)
    chief.raise_()
    save(chief, 7)

    commit = read_commit(directory, "model.ckpt-7")

    assert commit is not None
    assert (commit.step, commit.generation, commit.owner, commit.code) == (7, 4, "job-a", "c0de")
    assert commit.time.timestamp() == 1795384000.5
    assert commit.objects == {name: len(directory.read_bytes(name)) for name in files_of(7)}


def test_a_later_generation_ends_an_earlier_one(directory: Directory) -> None:
    before = raised(directory, 1)
    save(before, 1)
    after = fence(directory, 2)

    published = after.raise_()

    assert published is not None
    assert published.latest == "model.ckpt-1"
    assert after.previous_owner == "job-a"
    with pytest.raises(StaleGenerationError, match=r"claimed by generation 2 of job-a: generation 1"):
        save(before, 2)
    save(after, 2)
    assert state_of(directory).latest == "model.ckpt-2"


def test_an_earlier_generation_cannot_claim(directory: Directory) -> None:
    raised(directory, 3, owner="job-a")
    save(raised(directory, 3), 1)

    with pytest.raises(StaleGenerationError, match="claimed by generation 3"):
        fence(directory, 2).raise_()
    for generation in (2, 3):
        with pytest.raises(ModelDirInUseError, match="claimed by generation 3 of job-a"):
            fence(directory, generation, owner="job-b").raise_()


def test_a_job_goes_on_in_the_same_generation(directory: Directory) -> None:
    save(raised(directory, 3), 1)

    again = raised(directory, 3)
    save(again, 2)

    assert again.previous_owner == "job-a"
    assert state_of(directory).latest == "model.ckpt-2"


def test_of_two_trainings_without_a_job_the_one_that_began_last_goes_on(directory: Directory) -> None:
    first = raised(directory, owner="local-a-1")
    save(first, 1)
    second = raised(directory, owner="local-a-2")

    with pytest.raises(ModelDirInUseError, match="by generation 2 of local-a-2, while generation 1 of local-a-1"):
        save(first, 2)
    save(second, 2)

    assert (first.generation, second.generation) == (1, 2)


def test_of_two_trainings_that_begin_in_an_empty_model_dir_the_first_to_publish_goes_on(directory: Directory) -> None:
    first, second = raised(directory, owner="local-a-1"), raised(directory, owner="local-a-2")
    save(first, 1)

    with pytest.raises(ModelDirInUseError, match="claimed by generation 1 of local-a-1"):
        save(second, 2)

    save(first, 3)
    assert state_of(directory).latest == "model.ckpt-3"


def test_a_first_publish_that_an_older_generation_was_quicker_than_restores_from_that(directory: Directory) -> None:
    older, newer = raised(directory, 1), raised(directory, 2)
    save(older, 10)

    with pytest.raises(CheckpointSupersededError, match=r"Restore model\.ckpt-10") as caught:
        save(newer, 0)

    assert caught.value.latest == "model.ckpt-10"
    with pytest.raises(StaleGenerationError):
        save(older, 20)
    save(newer, 11)
    assert state_of(directory).latest == "model.ckpt-11"


def test_an_orphan_in_an_unclaimed_model_dir_is_replaced_only_under_a_claim(directory: Directory) -> None:
    older, newer = raised(directory, 1), raised(directory, 2)
    directory.write_bytes("model.ckpt-0.data-00000-of-00001", b"of a chief that was killed")

    write_objects(newer, 0, content=b"newer")

    assert state_of(directory).claim is not None
    assert state_of(directory).latest is None
    with pytest.raises(StaleGenerationError):
        save(older, 0)
    newer.publish("model.ckpt-0")
    assert directory.read_bytes("model.ckpt-0.data-00000-of-00001") == b"newer"


def test_what_was_written_before_an_older_generation_claimed_is_written_again(directory: Directory) -> None:
    older, newer = raised(directory, 1), raised(directory, 2)
    write_objects(newer, 0, content=b"newer")
    write_objects(older, 0, content=b"older")

    with pytest.raises(CheckpointSupersededError, match="Save again") as caught:
        newer.publish("model.ckpt-0")

    assert caught.value.latest is None
    with pytest.raises(ValueError, match="has not been written"):
        newer.publish("model.ckpt-0")
    save(newer, 0, content=b"newer")
    with pytest.raises(StaleGenerationError):
        older.publish("model.ckpt-0")
    assert directory.read_bytes("model.ckpt-0.data-00000-of-00001") == b"newer"


def test_the_latest_checkpoint_is_not_saved_again(directory: Directory) -> None:
    chief = raised(directory, 1)
    save(chief, 1)

    with pytest.raises(CheckpointExistsError, match=r"model\.ckpt-1 is published"):
        save(chief, 1, content=b"other")

    assert chief.is_published("model.ckpt-1")
    assert directory.read_bytes("model.ckpt-1.data-00000-of-00001") == b"weights"


def test_a_future_that_was_given_up_is_replaced(directory: Directory) -> None:
    chief = raised(directory, 1)
    for step in (1, 2, 3):
        save(chief, step)
    latest, earlier = (f'model_checkpoint_path: "model.ckpt-{step}"'.encode() for step in (3, 1))
    directory.write_bytes("checkpoint", directory.read_bytes("checkpoint").replace(latest, earlier, 1))

    again = raised(directory, 2)
    save(again, 2, content=b"other")

    assert state_of(directory).paths == ("model.ckpt-1", "model.ckpt-3", "model.ckpt-2")
    assert directory.read_bytes("model.ckpt-2.data-00000-of-00001") == b"other"
    assert directory.read_bytes("model.ckpt-3.data-00000-of-00001") == b"weights"


def test_a_damaged_checkpoint_is_set_aside(directory: Directory) -> None:
    chief = raised(directory, 1)
    for step in (1, 2, 3):
        save(chief, step)
    again = raised(directory, 2)

    state = again.set_aside({"model.ckpt-3"})

    assert (state.latest, state.paths) == ("model.ckpt-2", ("model.ckpt-1", "model.ckpt-2"))
    assert state_of(directory) == state
    save(again, 3, content=b"other")
    assert directory.read_bytes("model.ckpt-3.data-00000-of-00001") == b"other"
    with pytest.raises(CheckpointNotFoundError, match="has no checkpoint but"):
        again.set_aside({"model.ckpt-1", "model.ckpt-2", "model.ckpt-3"})


@pytest.mark.parametrize("text", ["", 'model_checkpoint_path: ""\n'])
def test_a_checkpoint_file_that_is_damaged_is_one_that_names_the_newest_whole_checkpoint(
    directory: Directory, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    chief = raised(directory, 1)
    save(chief, 1)
    save(chief, 2)
    directory.delete("model.ckpt-2.index")
    directory.write_bytes("checkpoint", text.encode())

    state = fence(directory, 2).raise_()

    assert state is not None
    assert state.latest == "model.ckpt-1"
    assert "becomes the latest" in caplog.text


@pytest.mark.parametrize("left", [None, b"", b'model_checkpoint_path: "model.ckpt-1"\n'])
def test_a_checkpoint_file_without_its_claim_does_not_lower_the_generation(
    directory: Directory, left: bytes | None
) -> None:
    save(raised(directory, 6), 1)
    directory.delete("checkpoint")
    if left is not None:  # a writer that was killed, on a store that takes half a request; a tf.train.Saver
        directory.write_bytes("checkpoint", left)
    assert reached_generation(directory) == 6

    again = raised(directory, owner="local-a-1")

    assert again.generation == 7
    assert state_of(directory).latest == "model.ckpt-1"


def test_a_checkpoint_file_that_is_deleted_under_a_training_ends_it(directory: Directory) -> None:
    chief = raised(directory, 1)
    save(chief, 1)
    directory.delete("checkpoint")

    with pytest.raises(ModelDirInUseError, match="was deleted, while generation 1 of job-a trained there"):
        save(chief, 2)


def test_a_foreign_writer_ends_a_training(directory: Directory) -> None:
    chief = raised(directory, 1)
    save(chief, 1)
    tf.compat.v1.train.update_checkpoint_state(directory.url, f"{directory.url}/model.ckpt-9")

    with pytest.raises(ModelDirInUseError, match=r"none of ours, such as a tf\.train\.Saver"):
        save(chief, 2)


def test_a_model_dir_of_tensorflow_is_claimed_and_keeps_what_it_has(directory: Directory, tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        for name in files_of(step):
            directory.write_bytes(name, b"foreign")
    tf.compat.v1.train.update_checkpoint_state(
        directory.url, f"{tmp_path}/model.ckpt-4", [f"{tmp_path}/model.ckpt-{step}" for step in (3, 4)]
    )
    text = directory.read_bytes("checkpoint")

    chief = raised(directory, keep=2)
    claimed = directory.read_bytes("checkpoint")
    save(chief, 5)

    assert claimed.endswith(b"\n" + text)
    assert chief.generation == 1
    assert steps_in(directory) == [1, 2, 4, 5]  # 1 and 2 are not counted, as with a Saver that was told of 3 and 4
    assert state_of(directory).paths == ("model.ckpt-4", "model.ckpt-5")
    assert state_of(directory).kept == ("model.ckpt-1", "model.ckpt-2")


def test_retention_keeps_the_newest(directory: Directory) -> None:
    chief = raised(directory, 1, keep=2)

    for step in (1, 2, 3, 4):
        save(chief, step)

    assert steps_in(directory) == [3, 4]
    assert [entry.name for entry in directory.list(".runner/commits")] == [
        f".runner/commits/model.ckpt-{step}.json" for step in (3, 4)
    ]


def test_retention_goes_on_where_the_run_before_ended(directory: Directory) -> None:
    before = raised(directory, 1, keep=3)
    for step in (1, 2, 3):
        save(before, step)

    after = raised(directory, 2, keep=2)
    assert steps_in(directory) == [1, 2, 3]
    save(after, 4)

    assert steps_in(directory) == [3, 4]


def test_what_is_kept_for_good_stays_when_a_later_run_keeps_less(directory: Directory) -> None:
    before = raised(directory, 1, keep=None)
    for step in (1, 2, 3):
        save(before, step)
    assert state_of(directory).paths == ("model.ckpt-3",)

    after = raised(directory, 2, keep=1)
    for step in (4, 5):
        save(after, step)

    assert steps_in(directory) == [1, 2, 5]


def test_orphans_of_dead_generations_are_swept_once_training_has_passed_them(
    directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    dead = raised(directory, 1)
    save(dead, 1)
    write_objects(dead, 2)  # whole, but never published
    directory.write_bytes("model.ckpt-3.data-00000-of-00002", b"torn")
    directory.write_bytes("model.ckpt-9.data-00000-of-00002", b"torn")
    for name in (*files_of(4), "input.ckpt-2.index", "best-2.data-00000-of-00001"):
        directory.write_bytes(name, b"none of ours")
    living = raised(directory, 2)

    save(living, 5)
    assert steps_in(directory) == [1, 4, 5, 9]
    save(living, 10)

    assert steps_in(directory) == [1, 4, 5, 10]
    assert {"input.ckpt-2.index", "best-2.data-00000-of-00001"} <= {entry.name for entry in directory.list()}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_index_is_the_last_object_of_a_save(directory: Directory) -> None:
    chief = raised(directory, 1)

    with pytest.raises(ValueError, match=r"No data of model\.ckpt-1 has been written"):
        chief.write("model.ckpt-1.index", b"")
    with pytest.raises(ValueError, match=r"model\.ckpt-1\.index has not been written"):
        chief.publish("model.ckpt-1")
    with pytest.raises(ValueError, match="is no object of a checkpoint"):
        chief.write("graph.pbtxt", b"")


@pytest.fixture
def unconditional(tmp_path: Path) -> Iterator[Directory]:
    fsspec.register_implementation("disk", DiskFileSystem, clobber=True)
    (tmp_path / "model").mkdir()
    yield open_directory(f"disk://{tmp_path}/model")
    del registered["disk"]


def test_where_conditions_are_ignored_another_writer_is_found_all_the_same(
    unconditional: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    assert not unconditional.conditional
    unconditional.write_bytes("model.ckpt-1.data-00000-of-00001", b"of a chief that was killed")
    first = raised(unconditional, 1)
    save(first, 1)
    save(first, 2)
    second = raised(unconditional, 2)

    with pytest.raises(StaleGenerationError):
        save(first, 3)
    save(second, 3)

    assert state_of(unconditional).latest == "model.ckpt-3"
    assert unconditional.read_bytes("model.ckpt-1.data-00000-of-00001") == b"weights"
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert "lease" in caplog.text


def test_the_hours_between_checkpoints_that_are_kept_for_good_go_on_in_the_next_run(directory: Directory) -> None:
    times = iter(range(0, 10**9, 300))  # each look at the clock is five minutes after the one before: a run has six

    for generation in (1, 2, 3):
        chief = Fence(
            directory,
            owner="job-a",
            generation=generation,
            retention=Retention(1, every_n_hours=1),
            clock=lambda: 1795384000 + next(times),
        )
        chief.raise_()
        save(chief, 2 * generation)
        save(chief, 2 * generation + 1)

    preserved = state_of(directory).last_preserved
    assert preserved is not None
    assert preserved > 1795384000 + 3600  # and no run lasted for an hour
    assert len(state_of(directory).kept) > 0


def test_a_clock_that_is_behind_that_of_the_run_before_changes_nothing(directory: Directory) -> None:
    def chief_at(seconds: int, generation: int) -> Fence:
        chief = Fence(
            directory,
            owner="job-a",
            generation=generation,
            retention=Retention(2, every_n_hours=1),
            clock=lambda: seconds,
        )
        chief.raise_()
        return chief

    for step in (1, 2):
        save(chief_at(1795384000, 1), step)
    for step in (3, 4):
        save(chief_at(1795384000 - 36000, 2), step)

    assert steps_in(directory) == [3, 4]
    assert state_of(directory).timestamps == (1795384000 - 36000,) * 2
