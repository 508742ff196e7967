"""Writers that share a model_dir on a real S3 server."""

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from runner.checkpoint.fence import Fence, reached_generation
from runner.checkpoint.inventory import step_of
from runner.checkpoint.listing import latest_checkpoint, survey_checkpoints
from runner.checkpoint.retention import Retention
from runner.checkpoint.state import STATE_FILE, parse_state
from runner.errors import (
    CheckpointExistsError,
    CheckpointSupersededError,
    ModelDirInUseError,
    ObjectNotFoundError,
    StaleGenerationError,
)
from runner.storage.directory import Directory, Upload
from runner.storage.urls import open_directory
from tests.checkpoint.writers import files_of, save
from tests.waiting import wait_until

_MEBIBYTE = 2**20
_REFUSALS = (StaleGenerationError, ModelDirInUseError, CheckpointSupersededError, CheckpointExistsError)


@pytest.fixture
def directory(s3_url: str) -> Directory:
    return open_directory(s3_url)


class History:
    """What many writers did, in the order in which they did it."""

    def __init__(self) -> None:
        self._ticks = itertools.count()
        self._lock = threading.Lock()
        self.claims: list[tuple[int, int]] = []  # generation, tick at which it was known to be there
        self.publishes: list[tuple[int, int, str, bytes]] = []  # generation, tick before it, basename, content
        self.refusals: list[str] = []

    def tick(self) -> int:
        return next(self._ticks)

    def next_generation(self, *, is_stale: bool) -> int:
        with self._lock:
            newest = max((generation for generation, _ in self.claims), default=0)
            return max(1, newest - 1) if is_stale else newest + 1

    def check(self) -> None:
        """Nobody published below a generation that had claimed the model_dir before."""
        late = [
            (generation, claimed)
            for generation, began, *_ in self.publishes
            for claimed, tick in self.claims
            if claimed > generation and tick < began
        ]
        assert late == []


class Writer:
    """Saves, and claims the model_dir now and then, with a generation that is sometimes stale."""

    def __init__(self, url: str, history: History, number: int) -> None:
        self._directory = open_directory(url)
        self._history = history
        self._number = number
        self._random = random.Random(number)
        self._fence: Fence | None = None
        self.error: BaseException | None = None

    def run(self, attempts: int) -> None:
        try:
            for attempt in range(attempts):
                try:
                    self._attempt(attempt)
                except _REFUSALS as error:  # it goes on with the fence that it has, stale as that is
                    self._history.refusals.append(type(error).__name__)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.error = error

    def _attempt(self, attempt: int) -> None:
        # If all claimed at every turn, none would hold the fence for as long as a save takes.
        if self._fence is None or self._random.random() < 0.02:
            self._fence = self._claim()
        state = self._fence.state
        step = (step_of(state.latest or "") or 0) + 1 if state else 1
        content = b"weights %02d %06d" % (self._number, attempt)
        began = self._history.tick()
        save(self._fence, step, content=content)
        self._history.publishes.append((self._fence.generation, began, f"model.ckpt-{step}", content))

    def _claim(self) -> Fence:
        generation = self._history.next_generation(is_stale=self._random.random() < 0.2)
        fence = Fence(self._directory, owner="job-a", generation=generation, retention=Retention(None))
        fence.raise_()
        self._history.claims.append((generation, self._history.tick()))
        return fence


class Observer:
    """Reads `checkpoint` all the time: the generation in it never falls, and nothing of what it names changes."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._tag = ""
        self.generations: list[int] = []
        self.published: dict[str, dict[str, bytes]] = {}
        self.error: BaseException | None = None

    def run(self, ended: threading.Event) -> None:
        try:
            while not ended.is_set():
                self.look()
            self.look()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.error = error

    def look(self) -> None:
        with suppress(ObjectNotFoundError):
            stored = self._directory.read_if_changed(STATE_FILE, self._tag)
            if stored is None:
                return
            self._tag = stored.tag
            state = parse_state(stored.data)
            assert state.claim is not None
            self.generations.append(state.claim.generation)
            for basename in state.named - self.published.keys():
                self.published[basename] = self.read(basename)

    def read(self, basename: str) -> dict[str, bytes]:
        return {name: self._directory.read_bytes(name) for name in files_of(step_of(basename) or 0)}


@pytest.mark.parametrize("attempts", [10, pytest.param(200, marks=[pytest.mark.chaos, pytest.mark.timeout(900)])])
def test_of_eight_writers_only_those_that_hold_the_fence_publish(directory: Directory, attempts: int) -> None:
    history, observer, ended = History(), Observer(directory), threading.Event()
    writers = [Writer(directory.url, history, number) for number in range(8)]
    threads = [threading.Thread(target=writer.run, args=[attempts]) for writer in writers]
    watching = threading.Thread(target=observer.run, args=[ended])
    for thread in (*threads, watching):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    watching.join()

    assert [writer.error for writer in writers] == [None] * 8
    assert observer.error is None
    history.check()
    assert observer.generations == sorted(observer.generations)
    # Whatever was published is as it was, and is of the writer who was told so.
    contents = {basename: content for _, _, basename, content in history.publishes}
    assert len(contents) == len(history.publishes)
    for basename, files in observer.published.items():
        assert observer.read(basename) == files
        assert {content.endswith(contents[basename]) for content in files.values()} == {True}
    assert contents.keys() == observer.published.keys()
    assert "StaleGenerationError" in history.refusals
    assert len(history.publishes) >= attempts / 2  # of eight times as many attempts, most of them stale
    assert len({generation for generation, *_ in history.publishes}) > attempts / 40
    assert latest_checkpoint(directory.url) is not None


@contextmanager
def stopped_within_an_object(fence: Fence, step: int, content: bytes) -> Iterator[Callable[[], BaseException | None]]:
    """A save that is stopped between two parts of its data; what is given lets it go on, and returns its end."""
    is_within, may_go_on = threading.Event(), threading.Event()
    errors: list[BaseException | None] = []

    def fill(upload: Upload) -> None:
        assert upload.part_count > 1
        for index in range(upload.part_count):
            start = index * upload.part_size_bytes
            upload.put(index, [memoryview(content)[start : start + upload.part_size_bytes]])
            is_within.set()
            assert may_go_on.wait(60)

    def run() -> None:
        try:
            fence.upload(f"model.ckpt-{step}.data-00000-of-00001", len(content), fill)
            fence.write(f"model.ckpt-{step}.meta", b"graph of " + content[-16:])
            fence.write(f"model.ckpt-{step}.index", b"index of " + content[-16:])
            fence.publish(f"model.ckpt-{step}")
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)
        else:
            errors.append(None)

    def go_on() -> BaseException | None:
        may_go_on.set()
        thread.join()
        return errors[0]

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: is_within.is_set() or errors, lambda: repr(errors))
    assert not errors
    try:
        yield go_on
    finally:
        go_on()


@pytest.mark.parametrize(("is_claimed", "has_orphan"), [(False, False), (True, True)])
@pytest.mark.parametrize("nonces", [(b"", b""), (b"zombie's nonce 1", b"successor's one2")])
def test_a_zombie_resumed_within_an_object_changes_nothing(
    directory: Directory, nonces: tuple[bytes, bytes], *, is_claimed: bool, has_orphan: bool
) -> None:
    weights = random.Random(1).randbytes(17 * _MEBIBYTE)  # two parts
    zombie, successor = (Fence(directory, owner="job-a", generation=generation) for generation in (1, 2))
    zombie.raise_()
    if is_claimed:
        save(zombie, 1)
    if has_orphan:
        directory.write_bytes("model.ckpt-2.data-00000-of-00001", b"of an attempt before")

    with stopped_within_an_object(zombie, 2, weights + nonces[0]) as go_on:
        successor.raise_()
        save(successor, 2, content=weights + nonces[1])
        before = {entry.name: (entry.tag, entry.modified_at) for entry in directory.list(recursive=True)}
        error = go_on()

    assert isinstance(error, StaleGenerationError)
    assert {entry.name: (entry.tag, entry.modified_at) for entry in directory.list(recursive=True)} == before
    assert directory.read_bytes("model.ckpt-2.data-00000-of-00001") == weights + nonces[1]
    assert reached_generation(directory) == 2
    assert {info.state for info in survey_checkpoints(directory.url)} == {"complete"}
