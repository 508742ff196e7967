"""CheckpointWriter, on a local disk and on a store without locks."""

import gc
import os
import resource
import sys
import threading
import uuid
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from runner.checkpoint.fence import Fence
from runner.checkpoint.writer import CheckpointWriter, SaveListener, SaveOutcome
from runner.errors import ModelDirInUseError, StaleGenerationError, StorageError, StoreUnavailableError
from runner.storage.directory import Condition, Directory, Upload
from runner.storage.memory_directory import MemoryDirectory
from runner.storage.memory_upload import MemoryUpload
from runner.storage.urls import open_directory
from tests.checkpoint.sources import ArraySource
from tests.waiting import wait_until

VALUES = {
    "kernel": np.random.default_rng(1).normal(size=(300, 700)).astype(np.float32),
    "bias": np.arange(5, dtype=np.float64),
    "global_step": np.int64(7),
    "none": np.zeros([0, 3], np.int32),
}


@pytest.fixture(params=["local", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    return open_directory(str(tmp_path / "model") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def open_writer(
    directory: Directory,
    *listeners: SaveListener,
    owner: str = "iris",
    generation: int | None = None,
) -> CheckpointWriter:
    fence = Fence(directory, owner=owner, generation=generation)
    fence.raise_()
    return CheckpointWriter(directory, fence, listeners=listeners)


def save(writer: CheckpointWriter, source: ArraySource, step: int, graph: bytes | None = None) -> SaveOutcome:
    writer.start(source, step=step, graph=graph)
    assert writer.wait(timeout_secs=60)
    (outcome,) = writer.outcomes()
    return outcome


def download(directory: Directory, target: Path) -> None:
    target.mkdir()
    for entry in directory.list():
        (target / entry.name).write_bytes(directory.read_bytes(entry.name))


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """The system refuses to write beyond that size, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """What is left in a cycle of references stays, as it does for long in a training."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Told(SaveListener):
    def __init__(self) -> None:
        self.saved: list[int] = []
        self.failed: list[tuple[int, Exception]] = []

    def on_saved(self, step: int) -> None:
        self.saved.append(step)

    def on_save_failed(self, step: int, error: Exception) -> None:
        self.failed.append((step, error))


def test_tensorflow_reads_what_was_saved(directory: Directory, tmp_path: Path) -> None:
    outcome = save(open_writer(directory), ArraySource(VALUES), 7)

    assert outcome == SaveOutcome(7)
    download(directory, tmp_path / "copy")
    assert tf.train.latest_checkpoint(str(tmp_path / "copy")) == str(tmp_path / "copy" / "model.ckpt-7")
    checkpoint = tf.train.load_checkpoint(str(tmp_path / "copy"))
    assert sorted(checkpoint.get_variable_to_shape_map()) == sorted(VALUES)
    for name, value in VALUES.items():
        np.testing.assert_array_equal(checkpoint.get_tensor(name), value)


def test_a_save_leaves_data_graph_index_commit_and_checkpoint(directory: Directory) -> None:
    save(open_writer(directory), ArraySource(VALUES), 7, graph=tf.compat.v1.MetaGraphDef().SerializeToString())

    names = {entry.name for entry in directory.list(recursive=True)} - {".runner/lock"}
    parts = ("data-00000-of-00001", "index", "meta")
    assert names == {*(f"model.ckpt-7.{part}" for part in parts), "checkpoint", ".runner/commits/model.ckpt-7.json"}


def test_a_large_model_is_written_in_parts_by_two_threads(directory: Directory, tmp_path: Path) -> None:
    values = {f"weight_{number}": np.full(9_000_000, number, np.float32) for number in range(2)}
    threads = set()

    save(
        open_writer(directory), ArraySource(values, before_read=lambda: threads.add(threading.current_thread().name)), 1
    )

    assert len(threads) == 2
    download(directory, tmp_path / "copy")
    checkpoint = tf.train.load_checkpoint(str(tmp_path / "copy"))
    for name, value in values.items():
        np.testing.assert_array_equal(checkpoint.get_tensor(name), value)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_the_threads_of_a_save_stand_back_behind_the_training(directory: Directory) -> None:
    values = {f"weight_{number}": np.full(9_000_000, number, np.float32) for number in range(2)}
    before, found = os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), set()
    source = ArraySource(
        values, before_read=lambda: found.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    )

    save(open_writer(directory), source, 1)

    assert found == {min(before + 5, 19)}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_no_two_objects_of_a_store_without_locks_are_equal() -> None:
    directory = open_directory(f"memory://{uuid.uuid4().hex}")
    writer = open_writer(directory)
    graph = tf.compat.v1.MetaGraphDef()
    graph.meta_info_def.tags.append("train")

    for step in (1, 2):
        save(writer, ArraySource({"weight": np.ones(9)}), step, graph=graph.SerializeToString())

    contents = [directory.read_bytes(entry.name) for entry in directory.list()]
    assert len(set(contents)) == len(contents) == 7
    assert tf.compat.v1.MetaGraphDef.FromString(directory.read_bytes("model.ckpt-1.meta")).meta_info_def.tags == [
        "train"
    ]


def test_the_memory_is_given_back_and_the_listeners_are_told(directory: Directory) -> None:
    told = Told()
    source = ArraySource(VALUES)
    writer = open_writer(directory, told)

    save(writer, source, 7)

    assert source.is_released.is_set()
    assert told.saved == [7]
    assert not writer.has_news


def test_one_save_is_in_flight_at_a_time(directory: Directory) -> None:
    go_on = threading.Event()
    writer = open_writer(directory)

    writer.start(ArraySource(VALUES, before_read=lambda: go_on.wait(60)), step=1)
    assert writer.is_saving
    assert not writer.wait(timeout_secs=0.01)
    with pytest.raises(ValueError, match="in flight"):
        writer.start(ArraySource(VALUES), step=2)
    go_on.set()

    assert writer.wait(timeout_secs=60)
    assert writer.outcomes() == [SaveOutcome(1)]


def test_a_save_that_the_disk_does_not_take_fails_and_the_next_one_does_not(tmp_path: Path) -> None:
    directory, told = open_directory(str(tmp_path)), Told()
    writer = open_writer(directory, told)
    save(writer, ArraySource(VALUES), 1)
    source = ArraySource(VALUES)

    with largest_file(100_000):
        failed = save(writer, source, 2)
    next_one = save(writer, ArraySource(VALUES), 3)

    assert isinstance(failed.error, StorageError)
    assert not failed.ends_training
    assert told.saved == [1, 3]
    assert told.failed == [(2, failed.error)]
    assert source.is_released.is_set()
    assert next_one == SaveOutcome(3)
    assert [entry.name for entry in directory.list() if entry.name.startswith("model.ckpt-2")] == []


@pytest.mark.usefixtures("no_collection")
def test_a_save_that_failed_holds_nothing_of_the_state() -> None:
    both_have_a_part = threading.Barrier(2)

    class Refused(MemoryUpload):
        def put(self, index: int, pieces: Sequence[memoryview]) -> None:
            both_have_a_part.wait(60)
            raise StoreUnavailableError(f"part {index} of {len(pieces)} pieces")

    class Refusing(MemoryDirectory):
        def upload(self, name: str, size_bytes: int, *, only: Condition | None = None) -> Upload:  # noqa: ARG002
            return Refused(name, size_bytes, publish=str)

    class Forgetting(ArraySource):
        def release(self) -> None:
            super().release()
            self._values.clear()

    value = np.zeros(16 << 20, np.uint8)
    writer, is_alive = open_writer(Refusing(f"memory://{uuid.uuid4().hex}")), weakref.ref(value)
    source = Forgetting({"weight": value})
    del value

    outcome = save(writer, source, 1)

    assert isinstance(outcome.error, StoreUnavailableError)
    assert is_alive() is None


def test_what_became_of_a_save_is_known_even_if_a_listener_fails(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(SaveListener):
        def on_saved(self, step: int) -> None:
            raise RuntimeError(f"told of {step}")

    raised: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(str(args.exc_value)))

    outcome = save(open_writer(directory, Failing()), ArraySource(VALUES), 1)

    assert outcome == SaveOutcome(1)
    assert wait_until(lambda: raised) == ["told of 1"]


@pytest.mark.parametrize(
    ("owner", "error"), [("iris", StaleGenerationError), ("other", ModelDirInUseError)], ids=["zombie", "foreign"]
)
def test_who_has_lost_the_model_dir_learns_it_from_the_next_save(
    directory: Directory, owner: str, error: type[Exception]
) -> None:
    writer = open_writer(directory, generation=1)
    save(writer, ArraySource(VALUES), 1)
    before = {entry.name: entry.tag for entry in directory.list(recursive=True)}
    save(open_writer(directory, owner=owner, generation=2), ArraySource(VALUES), 2)

    outcome = save(writer, ArraySource(VALUES), 3)

    assert isinstance(outcome.error, error)
    assert outcome.ends_training
    assert b"model.ckpt-3" not in directory.read_bytes("checkpoint")
    if directory.locks:  # elsewhere what nobody names is in nobody's way
        assert [entry.name for entry in directory.list() if "-3" in entry.name] == []
    after = {entry.name: entry.tag for entry in directory.list(recursive=True)}
    assert {name: tag for name, tag in after.items() if "ckpt-1" in name} == {
        name: tag for name, tag in before.items() if "ckpt-1" in name
    }


def test_a_step_that_is_published_is_not_written_again(directory: Directory) -> None:
    save(open_writer(directory), ArraySource(VALUES), 7)
    before = {entry.name: entry.tag for entry in directory.list() if entry.name != "checkpoint"}

    outcome = save(open_writer(directory), ArraySource({"other": np.ones(3)}), 7)

    assert outcome == SaveOutcome(7)
    assert {entry.name: entry.tag for entry in directory.list() if entry.name != "checkpoint"} == before


def test_a_save_that_takes_longer_than_the_training_waits_is_given_up(directory: Directory) -> None:
    go_on = threading.Event()
    source = ArraySource(VALUES, before_read=lambda: go_on.wait(60))
    writer = open_writer(directory)
    writer.start(source, step=1, graph=b"")
    timer = threading.Timer(0.2, go_on.set)
    timer.start()

    writer.finish(within_secs=0.05)

    (outcome,) = writer.outcomes()
    assert outcome.error is not None
    assert source.is_released.is_set()
    assert [entry.name for entry in directory.list() if "index" in entry.name] == []
    timer.join()


def test_finishing_waits_for_the_save_in_flight(directory: Directory) -> None:
    go_on = threading.Event()
    writer = open_writer(directory)
    writer.start(ArraySource(VALUES, before_read=lambda: go_on.wait(60)), step=1)
    threading.Timer(0.1, go_on.set).start()

    writer.finish(within_secs=60)
    writer.finish(within_secs=60)

    assert writer.outcomes() == [SaveOutcome(1)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint-writer")]
