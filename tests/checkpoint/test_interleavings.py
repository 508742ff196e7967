"""Writers that share a model_dir, stopped and resumed at every request: what each of them can still do."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.checkpoint.fence import Fence
from runner.checkpoint.inventory import basename_of, find_files, step_of
from runner.checkpoint.listing import latest_checkpoint, survey_checkpoints
from runner.checkpoint.retention import Retention
from runner.checkpoint.state import STATE_FILE, CheckpointState, Claim, parse_state
from runner.checkpoint.transitions import named_in
from runner.errors import (
    CheckpointExistsError,
    CheckpointSupersededError,
    ModelDirInUseError,
    ObjectNotFoundError,
    StaleGenerationError,
    StoreUnavailableError,
)
from runner.storage.directory import Directory
from runner.storage.local_directory import LocalDirectory
from runner.storage.urls import open_directory
from tests.checkpoint.stoppable import Fate, StoppableDirectory, StoppableThread, VisibleLock, finish_all
from tests.checkpoint.writers import contents, save, write_objects

STEPS = (10, 20, 30, 40)
FATES = st.sampled_from(["done", "done", "done", "refused", "lost", "repeated"])


class Chief:
    """A training that saves the same steps, with the same weights, as every other."""

    def __init__(
        self,
        world: "World",
        *,
        owner: str = "job-a",
        generation: int | None = None,
        steps: Sequence[int] = STEPS,
        distrusts: str = "",
    ) -> None:
        self._world = world
        self._steps = steps
        self._distrusts = distrusts
        self._owner = owner
        self._generation = generation
        self.thread = StoppableThread(self._train)
        self.thread.wait_for_stop()

    def _train(self, thread: StoppableThread) -> None:
        directory = self._world.seen_by(thread)
        fence = Fence(
            directory, owner=self._owner, generation=self._generation, retention=Retention(2), clock=self._world.clock
        )
        state = None
        while not fence.generation or state is None:
            try:
                state = fence.raise_() or CheckpointState(None)
            except StoreUnavailableError:
                continue
        if state.latest == self._distrusts:
            state = fence.set_aside({self._distrusts})
        step = step_of(state.latest or "") or 0
        while later := [each for each in self._steps if each > step]:
            try:
                save(fence, later[0], content=self._world.content())
            except CheckpointSupersededError as error:
                step = step_of(error.latest or "") or 0
                continue
            except (StoreUnavailableError, CheckpointExistsError):
                continue  # saved again, unless that is what was published although the reply was lost
            finally:
                if fence.state is not None:
                    step = max(step, step_of(fence.state.latest or "") or 0)
            step = later[0]


class World:
    """A model_dir, of which every change is watched."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.clock = itertools.count(1795384000).__next__
        self.claims: list[Claim] = []
        self.violations: list[str] = []
        self._lock = VisibleLock()
        self._saves = itertools.count()
        self._named: frozenset[str] = frozenset()
        self._before: bytes | None = None

    def content(self) -> bytes:
        return b"the same weights, save %08d" % next(self._saves)

    def seen_by(self, thread: StoppableThread) -> StoppableDirectory:
        return StoppableDirectory(
            self.directory, thread, lock=self._lock, changing=self._changing, changed=self._changed
        )

    def clear(self) -> None:
        """Frees what it takes of the memory."""
        for entry in self.directory.list(recursive=True):
            self.directory.delete(entry.name)

    def _changing(self, name: str) -> None:
        self._before = self._content(name)

    def _changed(self, name: str) -> None:
        if self._content(name) == self._before:
            return
        if name == STATE_FILE:
            self._check_published()
        elif basename_of(name) in self._named:
            self.violations.append(f"{name} was changed although `checkpoint` names it")

    def _content(self, name: str) -> bytes | None:
        try:
            return self.directory.read_bytes(name)
        except ObjectNotFoundError:
            return None

    def _check_published(self) -> None:
        state = parse_state(self.directory.read_bytes(STATE_FILE))
        assert state.claim is not None
        if self.claims and state.claim.generation < self.claims[-1].generation:
            self.violations.append(f"{state.claim} wrote after {self.claims[-1]}")
        self.claims.append(state.claim)
        self._named = named_in(self.directory.url, state)
        for basename in self._named:
            self._check_whole(basename)

    def _check_whole(self, basename: str) -> None:
        files = find_files(self.directory, basename)
        saves = {self.directory.read_bytes(entry.name)[-8:] for entry in files.entries}
        if not files.is_whole or len(saves) != 1:
            self.violations.append(f"`checkpoint` names {basename}, which has {files} of {saves}")


class Machine(RuleBasedStateMachine):
    """Up to four chiefs, each of which may be stopped for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.make_directory())
        self.chiefs: list[Chief] = []

    def make_directory(self) -> Directory:
        raise NotImplementedError  # by the machine of a store, below

    @precondition(lambda self: len(self.chiefs) < 4)
    @rule(has_job=st.booleans())
    def begin(self, has_job: bool) -> None:  # noqa: FBT001 - hypothesis calls it
        claimed = self.world.claims[-1].generation if self.world.claims else 0
        generation = max(claimed, len(self.chiefs)) + 1
        if has_job:
            self.chiefs.append(Chief(self.world, owner="job-a", generation=generation))
        else:
            self.chiefs.append(Chief(self.world, owner=f"local-{len(self.chiefs)}", generation=None))

    @precondition(lambda self: self.chiefs)
    @rule(chief=st.integers(0, 3), fate=FATES, requests=st.integers(1, 25))
    def resume(self, chief: int, fate: Fate, requests: int) -> None:
        thread = self.chiefs[chief % len(self.chiefs)].thread
        for _ in range(requests - 1):
            thread.resume()
        thread.resume(fate)

    @precondition(lambda self: self.chiefs)
    @rule(chief=st.integers(0, 3))
    def kill(self, chief: int) -> None:
        self.chiefs[chief % len(self.chiefs)].thread.kill()

    @invariant()
    def nothing_is_violated(self) -> None:
        assert self.world.violations == []
        for chief in self.chiefs:
            if (error := chief.thread.error) is not None:
                assert isinstance(error, (StaleGenerationError, ModelDirInUseError)), repr(error)

    def teardown(self) -> None:
        try:
            finish_all([chief.thread for chief in self.chiefs])
            self.nothing_is_violated()
            self.check_that_the_next_one_can_train()
        finally:
            for chief in self.chiefs:
                chief.thread.kill()
            self.world.clear()

    def check_that_the_next_one_can_train(self) -> None:
        latest = step_of(latest_checkpoint(self.world.directory.url) or "") or 0
        fence = Fence(self.world.directory, owner="last", retention=Retention(2), clock=self.world.clock)

        fence.raise_()
        save(fence, latest + 1, content=self.world.content())

        assert latest_checkpoint(self.world.directory.url) == f"{self.world.directory.url}/model.ckpt-{latest + 1}"
        left = {info.state for info in survey_checkpoints(self.world.directory.url) if info.step <= latest + 1}
        assert left <= {"complete"}, survey_checkpoints(self.world.directory.url)


class StoreMachine(Machine):
    """On a store whose tags are hashes, and that has no lock."""

    def make_directory(self) -> Directory:
        return open_directory(f"memory://interleavings/{next(_DIRECTORIES)}")


class DiskMachine(Machine):
    """On a local disk, where everything is done inside a lock."""

    def make_directory(self) -> Directory:
        return LocalDirectory(tempfile.mkdtemp(), durable=False)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            shutil.rmtree(self.world.directory.url)


_DIRECTORIES = itertools.count()
_SETTINGS = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)

TestStore = StoreMachine.TestCase
TestStore.settings = _SETTINGS
TestDisk = DiskMachine.TestCase
TestDisk.settings = _SETTINGS


def leave_orphans(world: World) -> None:
    """What two chiefs left that were killed: step 5 is published; 20 is whole and is not; 10 has some data."""
    fence = Fence(world.directory, owner="job-a", generation=1, clock=world.clock)
    fence.raise_()
    save(fence, 5, content=world.content())
    write_objects(fence, 20, content=world.content())
    world.directory.write_bytes("model.ckpt-10.data-00000-of-00001", world.content())


def leave_data(world: World) -> None:
    """What a chief left that was killed in its first save."""
    world.directory.write_bytes("model.ckpt-10.data-00000-of-00001", world.content())


def leave_nothing(_: World) -> None:
    """An empty model_dir."""


def stop_both(world: World, *, at: int, until: int, distrusts: str = "") -> bool:
    """Lets an older chief make `at` requests, a newer one `until`, then both the rest; whether they had as many."""
    older = Chief(world, generation=2, steps=(10, 20))
    for _ in range(at):
        older.thread.resume()
    is_within = not older.thread.is_done
    newer = Chief(world, generation=3, steps=(10, 20), distrusts=distrusts)
    for _ in range(until):
        newer.thread.resume()
    is_within = is_within and not newer.thread.is_done
    finish_all([older.thread])
    finish_all([newer.thread])
    assert newer.thread.error is None
    assert older.thread.error is None or isinstance(older.thread.error, StaleGenerationError)
    return is_within


@pytest.mark.parametrize("leave", [leave_nothing, leave_data, leave_orphans])
def test_a_zombie_changes_nothing_wherever_it_was_stopped_and_resumed(leave: Callable[[World], None]) -> None:
    for at in itertools.count():
        for until in itertools.count():
            world = World(open_directory(f"memory://interleavings/{next(_DIRECTORIES)}"))
            leave(world)

            is_within = stop_both(world, at=at, until=until)

            assert world.violations == [], (at, until)
            assert latest_checkpoint(world.directory.url) == f"{world.directory.url}/model.ckpt-20"
            world.clear()
            if not is_within:
                break
        if until == 0:
            return


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a_zombie_does_not_delete_what_a_person_went_back_to(kind: str, tmp_path: Path) -> None:
    world = World(open_directory(f"memory:/{tmp_path}" if kind == "memory" else str(tmp_path)))

    def train(thread: StoppableThread) -> None:
        fence = Fence(world.seen_by(thread), owner="job-a", generation=1, retention=Retention(1))
        fence.raise_()
        for step in STEPS[:3]:
            save(fence, step, content=world.content())

    older = StoppableThread(train)
    older.wait_for_stop()
    while not world.claims or latest_checkpoint(world.directory.url) != f"{world.directory.url}/model.ckpt-30":
        older.resume()
    assert find_files(world.directory, "model.ckpt-20").is_whole  # it is about to be deleted
    world.directory.write_bytes(STATE_FILE, b'model_checkpoint_path: "model.ckpt-20"\n')
    Fence(world.directory, owner="job-a", generation=2).raise_()
    before = contents(world.directory)

    finish_all([older])

    assert isinstance(older.error, StaleGenerationError)
    assert contents(world.directory) == before
