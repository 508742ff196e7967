"""The fence: of all that ever wrote to a model_dir, only the last one that claimed it can publish.

The claim is the first line of the `checkpoint` file; see runner/checkpoint/state.py. What follows holds on every store
that honours conditions, wherever the writers are stopped, for however long, and resumed:

1.  Every write of `checkpoint` is conditional on the one before, and has a nonce, so that it is like no other. Once the
    claim of generation g is there, a write of a lower one is refused, for it is conditional on something that is gone.
2.  An object of a checkpoint is created, or written over an orphan whose tag was read after the fence was raised and
    before the fence was found unchanged. So whoever may still hold a condition on an object's tag had read that tag
    before the next generation claimed the model_dir. The next generation writes its own objects after its claim, with
    tags of their own, thanks to the nonce in each: the condition holds for none of them.
3.  What `checkpoint` names is never written to, and deleted only after a `checkpoint` that does not name it any more.
4.  In a model_dir without `checkpoint` nobody has claimed anything yet. There objects are only created, and the first
    publish is too. Who has to replace an orphan first claims the model_dir with a `checkpoint` that names none.
5.  If that finds that an older generation was quicker, all that was written before is void: 2. did not hold for it.

Deleting is not conditional, where the store does not lock: a delete that is under way while its sender is stopped may
come late. Only steps before the latest are ever deleted, which training passes once. See `Fence._delete`.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from runner.checkpoint.claimed_state import ClaimedState, compare_by_hand
from runner.checkpoint.commits import Commit, commit_name, newest_generation, read_commit
from runner.checkpoint.evaluations import read_evaluations
from runner.checkpoint.inventory import CheckpointFiles, basename_of, step_of, take_inventory
from runner.checkpoint.retention import Retention
from runner.checkpoint.state import STATE_FILE, CheckpointState, parse_state
from runner.checkpoint.transitions import published, without
from runner.errors import (
    CheckpointExistsError,
    CheckpointSupersededError,
    ConditionFailedError,
    ModelDirInUseError,
    ObjectNotFoundError,
    StorageError,
)
from runner.storage.directory import Condition, Directory, IfAbsent, IfUnchanged, Upload

__all__ = ["Fence", "reached_generation"]

_ATTEMPTS = 20
_ABANDONED_AFTER = timedelta(hours=1)

_logger = logging.getLogger(__name__)


class Fence:
    """The right of one chief to write checkpoints into a model_dir. Thread-safe.

    The order of calls: `raise_`; for each save `upload` and `write` of its objects, the index last; `publish`. An error
    that is none of the store ends the training, except CheckpointSupersededError.

    Args:
        directory: The model_dir.
        owner: The job's id, or what names a process without a job; without blanks.
        generation: The job's; None takes the next after that of the model_dir, whoever has it: for a training without
            a job.
        retention: What is deleted after a publish.
        code: sha256 of the job's code snapshot, for the commits.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        owner: str,
        generation: int | None = None,
        retention: Retention | None = None,
        code: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._owner = owner
        self._retention = retention or Retention()
        self._code = code
        self._clock = clock
        self._state = ClaimedState(directory, owner=owner, generation=generation)
        self._mutex = threading.RLock()
        self._raised_at = clock()
        self._written: dict[str, int] = {}  # objects and their sizes
        self._written_under = 0  # claims
        self._doomed: set[str] = set()
        self._has_published = False

    @property
    def generation(self) -> int:
        """Of the claim; 0 before it."""
        return self._state.generation

    @property
    def previous_owner(self) -> str | None:
        """Who had claimed the model_dir before; None if nobody had."""
        return self._state.previous_owner

    @property
    def state(self) -> CheckpointState | None:
        """What is published, as far as this writer knows; None if nothing is."""
        return self._state.current if self._state.current.latest else None

    def is_published(self, basename: str) -> bool:
        """Whether that is the latest checkpoint, so that its step needs no save."""
        return self._state.latest == basename

    def raise_(self) -> CheckpointState | None:
        """Claims the model_dir: from now on nobody can publish who claimed it before. Comes before any restore.

        Where `checkpoint` is missing, or damaged, the newest whole checkpoint becomes the latest.

        Returns:
            What is published; None if nothing is.

        Raises:
            StaleGenerationError: A later generation of the same job has claimed it.
            ModelDirInUseError: Another owner has, with a generation that is not lower.
        """
        with self._mutex:
            self._raised_at = self._clock()
            self._state.claim()
            return self.state

    def check(self) -> None:
        """Finds out whether this writer still holds the fence. Costs one small request.

        Raises:
            StaleGenerationError: A later generation of the same job has claimed the model_dir.
            ModelDirInUseError: Somebody else wrote, or deleted, `checkpoint`.
            CheckpointSupersededError: See there.
        """
        with self._mutex:
            self._state.check()

    def write(self, name: str, data: bytes) -> None:
        """Writes a small object of a checkpoint. The index comes last; its commit is written before it.

        Args:
            name: `model.ckpt-<step>.index` or the like.
            data: With a nonce in it, unless the directory locks.

        Raises:
            CheckpointExistsError: It is the latest checkpoint already.
            StaleGenerationError: A later generation of the same job has claimed the model_dir.
            ModelDirInUseError: Somebody else wrote, or deleted, `checkpoint`.
            CheckpointSupersededError: See there.
        """
        basename = self._make_room(name)
        if name == f"{basename}.index":
            self._write_commit(basename, index_size_bytes=len(data))

        self._write(name, data)

    def upload(self, name: str, size_bytes: int, fill: Callable[[Upload], None]) -> None:
        """Writes a large object of a checkpoint, in parts; see `write`.

        Args:
            name: `model.ckpt-<step>.data-00000-of-00001` or the like.
            size_bytes: Of all of it.
            fill: Puts all parts; called again if somebody else wrote the object meanwhile.
        """
        self._make_room(name)

        def send(only: Condition) -> None:
            with self._directory.upload(name, size_bytes, only=only) as upload:
                fill(upload)
                with self._sure_of(name, only):
                    upload.commit()

        # A refusal costs the whole upload: what lies in the way is looked for first.
        self._store(name, size_bytes, send, only=self._condition(name))

    def publish(self, basename: str) -> CheckpointState:
        """Makes a checkpoint the latest; then deletes what retention no longer keeps, and what dead generations left.

        What cannot be deleted is tried again after the next publish.

        Args:
            basename: `model.ckpt-<step>`, all of whose objects have been written.

        Returns:
            What is published.

        Raises:
            ValueError: Its index has not been written.
            StaleGenerationError: A later generation of the same job has claimed the model_dir.
            ModelDirInUseError: Somebody else wrote, or deleted, `checkpoint`.
            CheckpointSupersededError: See there.
        """
        evaluations = read_evaluations(self._directory, self._state.named) if self._retention.best else {}

        def change(state: CheckpointState) -> CheckpointState | None:
            if self.is_published(basename):
                return None  # by an earlier attempt that failed as far as we knew
            after, dropped = published(
                self._directory.url,
                state,
                basename,
                now=self._clock(),
                run_began=self._raised_at,
                times=self._state.times,
                retention=self._retention,
                evaluations=evaluations,
            )
            self._doomed |= dropped
            return after

        with self._mutex:
            if f"{basename}.index" not in self._written_now():
                raise ValueError(f"{basename}.index has not been written: there is nothing to publish.")
            self._state.change(change)
            self._doomed.discard(basename)
            self._written.clear()
            is_first, self._has_published = not self._has_published, True
            state = self._state.current
        self._clean(sweep=is_first)
        return state

    def set_aside(self, damaged: Collection[str]) -> CheckpointState:
        """Takes checkpoints that cannot be read out of `checkpoint`; the newest of the others is the latest then.

        Args:
            damaged: Their basenames.

        Raises:
            CheckpointNotFoundError: There is no other; nothing was changed.
            StaleGenerationError: A later generation of the same job has claimed the model_dir.
            ModelDirInUseError: Somebody else wrote, or deleted, `checkpoint`.
        """
        with self._mutex:
            self._take_out(frozenset(damaged))
            return self._state.current

    def _take_out(self, basenames: frozenset[str]) -> None:
        self._state.change(
            lambda state: without(self._directory.url, state, basenames) if self._state.named & basenames else None
        )

    def _make_room(self, name: str) -> str:
        """Sees to it that `checkpoint` does not name the checkpoint that an object belongs to; returns its basename."""
        if (basename := basename_of(name)) is None:
            raise ValueError(f"{name!r} is no object of a checkpoint: expected model.ckpt-<step>.index or the like.")
        with self._mutex:
            if self.is_published(basename):
                raise CheckpointExistsError(
                    f"{self._directory.url}/{basename} is published, and what is published is not replaced. Train at "
                    "least one step before the next save."
                )
            # One of a future that was given up, since training went on from an older checkpoint.
            self._take_out(frozenset({basename}))
            self._doomed.discard(basename)
        return basename

    def _written_now(self) -> dict[str, int]:
        """What was written since the last claim: what was written before it, see 5. above, does not count."""
        if self._written_under != self._state.claims:
            self._written, self._written_under = {}, self._state.claims
        return self._written

    def _store(self, name: str, size_bytes: int, send: Callable[[Condition], None], *, only: Condition) -> None:
        claims = self._state.claims
        for _ in range(_ATTEMPTS):
            try:
                send(only)
            except ConditionFailedError:
                only = self._condition(name)
                continue
            with self._mutex:
                if self._state.claims != claims:  # by a call in another thread, which has raised this error too
                    raise CheckpointSupersededError(f"{name} was written before the last claim.", latest=None)
                self._written_now()[name] = size_bytes
            return
        raise ModelDirInUseError(
            f"{self._directory.url}/{name} was written {_ATTEMPTS} times by somebody else meanwhile: end that training."
        )

    def _condition(self, name: str) -> Condition:
        """What an object is to be written on: see 2. and 4. above, which the order of the requests is for."""
        if self._directory.stat(name) is None:
            return IfAbsent()
        with self._mutex:
            if not self._state.is_claimed:
                self._state.change(lambda state: None if self._state.is_claimed else state)
        entry = self._directory.stat(name)
        self.check()
        self._make_room(name)
        return IfAbsent() if entry is None else IfUnchanged(entry.tag)

    def _write(self, name: str, data: bytes) -> None:
        def send(only: Condition) -> None:
            with self._sure_of(name, only):
                self._directory.write_bytes(name, data, only=only)

        self._store(name, len(data), send, only=IfAbsent())

    @contextmanager
    def _sure_of(self, name: str, only: Condition) -> Iterator[None]:
        """Where the directory can be locked, nobody else claims it or writes to it meanwhile."""
        if not self._directory.locks:
            compare_by_hand(self._directory, name, only)
            yield
            return
        with self._mutex, self._directory.locked():
            self._state.check()
            yield

    def _write_commit(self, basename: str, *, index_size_bytes: int) -> None:
        name = commit_name(basename)
        with self._mutex:
            written = dict(self._written_now())
        if not any(each.startswith(f"{basename}.data-") for each in written):
            raise ValueError(f"No data of {basename} has been written since the model_dir was claimed.")
        commit = Commit(
            step=step_of(basename),
            generation=self.generation,
            owner=self._owner,
            code=self._code,
            time=datetime.fromtimestamp(self._clock(), UTC),
            objects={each: size for each, size in written.items() if each.startswith(f"{basename}.")}
            | {f"{basename}.index": index_size_bytes},
            nonce=secrets.token_hex(8),
        )
        self._write(name, commit.encode())

    def _clean(self, *, sweep: bool) -> None:
        """Deletes what retention dropped and, once, what dead generations left."""
        try:
            if not sweep and not any(self._is_passed(basename) for basename in self._doomed):
                return
            # What is listed before the fence is found unchanged was written by this generation or by dead ones.
            inventory = take_inventory(self._directory)
            if sweep:
                self._directory.abort_uploads(older_than=_ABANDONED_AFTER)
                self._doomed |= {files.basename for files in inventory.values() if self._is_dead(files)}
            for basename in sorted(self._doomed):
                self._delete(basename, inventory.get(basename))
        except StorageError as error:
            _logger.warning("%s: old checkpoints are deleted after the next save: %s", self._directory.url, error)

    def _is_passed(self, basename: str) -> bool:
        return (step_of(basename) or 0) < (step_of(self._state.latest or "") or 0)

    def _is_dead(self, files: CheckpointFiles) -> bool:
        """Whether a checkpoint was never published, and never will be.

        What looks whole and has no commit was written by another program, and is none of our business.
        """
        if not files.is_ours or files.basename in self._state.named:
            return False
        if files.index is None and files.has_data:
            return True
        commit = read_commit(self._directory, files.basename)
        return commit is not None and commit.generation <= self.generation

    def _delete(self, basename: str, files: CheckpointFiles | None) -> None:
        """Deletes a checkpoint that `checkpoint` does not name, if training has passed its step.

        A delete has no condition: if its sender is stopped in mid-request, it may come when the next generation has
        long begun. So a step is left alone that the next generation, which starts from the latest, is still to save.
        There remains a generation that goes back further, because the latest is damaged: if such a late delete hits
        what it then saved again, that is found to lack a file, and the one before it is restored.
        """
        with self._mutex, self._directory.locked():
            self._state.check()
            if basename in self._state.named:
                self._doomed.discard(basename)
            elif self._is_passed(basename):
                for name in files.in_order_of_deletion() if files else [commit_name(basename)]:
                    self._directory.delete(name)
                self._doomed.discard(basename)


def reached_generation(directory: Directory) -> int:
    """The highest generation that has claimed a model_dir; 0 if none has. That of a new job must be higher.

    Where `checkpoint` has no claim, since it was deleted, emptied, or written by another program, the commits tell.
    """
    try:
        claim = parse_state(directory.read_bytes(STATE_FILE)).claim
    except ObjectNotFoundError:
        claim = None
    return claim.generation if claim else newest_generation(directory)
