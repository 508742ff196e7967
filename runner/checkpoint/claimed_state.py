"""The `checkpoint` file as one writer claims and rewrites it; see runner/checkpoint/fence.py for the why."""

import logging
import secrets
from collections.abc import Callable, Mapping

from runner.checkpoint.commits import newest_generation
from runner.checkpoint.inventory import take_inventory
from runner.checkpoint.state import STATE_FILE, CheckpointState, Claim, parse_state
from runner.checkpoint.transitions import adopted, named_in, own_basename
from runner.errors import (
    CheckpointSupersededError,
    ConditionFailedError,
    ModelDirInUseError,
    ObjectNotFoundError,
    StaleGenerationError,
)
from runner.storage.directory import Condition, Directory, IfAbsent, IfUnchanged, Stored

__all__ = ["ClaimedState", "compare_by_hand"]

_ATTEMPTS = 20

_logger = logging.getLogger(__name__)


class ClaimedState:
    """The `checkpoint` file of a model_dir, every write of which is conditional on the one before. Not thread-safe.

    Args:
        directory: The model_dir.
        owner: Of the claim.
        generation: Of the claim; None takes the next after that of the model_dir.

    Attributes:
        generation: Of the claim; 0 before there is one.
        previous_owner: Who had claimed the model_dir before; None if nobody had.
        current: What the file says.
        claims: How often it has been claimed: what was written before the last one is void.
        times: Basename -> seconds since the epoch, of checkpoints whose writer did not tell.
    """

    def __init__(self, directory: Directory, *, owner: str, generation: int | None) -> None:
        self.generation = generation or 0
        self.previous_owner: str | None = None
        self.current = CheckpointState(None)
        self.claims = 0
        self.times: Mapping[str, float] = {}
        self._directory = directory
        self._owner = owner
        self._is_given = generation is not None
        self._tag: str | None = None
        self._nonces: set[str] = set()

    @property
    def is_claimed(self) -> bool:
        """Whether our claim is there. If not, there was no file when the model_dir was claimed."""
        return self._tag is not None

    @property
    def named(self) -> frozenset[str]:
        """The basenames of all checkpoints of this model_dir that the file names."""
        return named_in(self._directory.url, self.current)

    @property
    def latest(self) -> str | None:
        """The basename of the newest checkpoint, if it is in this model_dir."""
        latest = self.current.latest
        return own_basename(self._directory.url, latest) if latest else None

    def claim(self) -> None:
        """Puts our claim above what is there; see `Fence.raise_`."""
        with self._directory.locked():
            for _ in range(_ATTEMPTS):
                if self._try_claim(self._read()):
                    self.claims += 1
                    return
        raise ModelDirInUseError(
            f"{self._directory.url}/{STATE_FILE} was rewritten {_ATTEMPTS} times while {self._owner} tried to claim "
            "it: somebody else trains there. End that training first."
        )

    def check(self) -> None:
        """Finds out whether the file still is as we wrote it; see `Fence.check`."""
        try:
            if self._tag is None:
                stored: Stored | None = self._directory.read(STATE_FILE)
            else:
                stored = self._directory.read_if_changed(STATE_FILE, self._tag)
        except ObjectNotFoundError:
            if self._tag is not None:
                self._take_or_refuse(None)
            return
        if stored is not None:
            self._take_or_refuse(stored)

    def change(self, change: Callable[[CheckpointState], CheckpointState | None]) -> None:
        """Rewrites the file under our claim, or finds out why that is refused.

        Args:
            change: Makes the next state from the one before, or None if nothing is left to do. It is called again if a
                write of ours, whose outcome we did not learn, turns out to have won.
        """
        with self._directory.locked():
            while (state := change(self.current)) is not None:
                try:
                    self._rewrite(state)
                except ConditionFailedError:
                    # If it is ours all the same, a reply was lost: then there may be nothing left to do.
                    self._take_or_refuse(self._read())
                else:
                    return

    def _try_claim(self, stored: Stored | None) -> bool:
        """Puts our claim on what was read; false if somebody else was quicker."""
        state = parse_state(stored.data) if stored else CheckpointState(None)
        claim = state.claim
        if claim is None or claim.nonce not in self._nonces:
            self._check_older(claim)
            self.previous_owner = claim.owner if claim else None
        if not self._is_given:
            # Where no claim is left, as in a file that was emptied, the commits tell who wrote here.
            self.generation = (claim.generation if claim else newest_generation(self._directory)) + 1
        self._tag, self.current = (stored.tag if stored else None), self._look_around(state)
        if stored is None and self.current.latest is None:
            return True
        try:
            self._rewrite(self.current, text=stored.data if stored and state.latest else None)
        except ConditionFailedError:
            return False
        return True

    def _check_older(self, claim: Claim | None) -> None:
        if claim is None or not self._is_given:
            return
        # The same generation of the same job: an earlier train() of its chief.
        is_own = claim.owner == self._owner and claim.generation == self.generation
        if claim.generation >= self.generation and not is_own:
            raise self._refusal(claim)

    def _look_around(self, state: CheckpointState) -> CheckpointState:
        """The state, with what the files in the model_dir tell beyond it."""
        if state.claim is not None and (state.timestamps or not state.paths):
            return state  # what it does not name was never published, even if it looks whole
        inventory = take_inventory(self._directory)
        indexes = {name: files.index for name, files in inventory.items()}
        self.times = {name: index.modified_at.timestamp() for name, index in indexes.items() if index}
        if state.claim is not None:
            return state
        found = adopted(self._directory.url, state, inventory)
        if found.latest != state.latest:
            _logger.warning(
                "%s has no `checkpoint` file that can be used; its newest complete checkpoint, %s, becomes the latest.",
                self._directory.url,
                found.latest,
            )
        return found

    def _rewrite(self, state: CheckpointState, *, text: bytes | None = None) -> None:
        """Writes the file over the version that we know.

        Args:
            state: Written under our claim.
            text: Of the file, if only the claim in it is to change.

        Raises:
            ConditionFailedError: There is another version, which may be our own if a reply was lost.
        """
        # No two writes are the same, so that their tags differ where a tag is a hash of the content.
        claim = Claim(self.generation, self._owner, secrets.token_hex(8))
        self._nonces.add(claim.nonce)
        state = state.claimed_by(claim)
        data = state.encode() if text is None else state.rewrite(text)
        only = IfAbsent() if self._tag is None else IfUnchanged(self._tag)
        with self._directory.locked():
            compare_by_hand(self._directory, STATE_FILE, only)
            self._tag = self._directory.write_bytes(STATE_FILE, data, only=only)
        self.current = state

    def _take(self, stored: Stored) -> bool:
        """Whether we wrote that; if so it is what the next write is conditional on."""
        state = parse_state(stored.data)
        is_ours = state.claim is not None and state.claim.nonce in self._nonces
        if is_ours:
            self._tag, self.current = stored.tag, state
        return is_ours

    def _take_or_refuse(self, stored: Stored | None) -> None:
        """Takes a file that changed if we wrote it; if not, the fence is no longer ours."""
        if stored is not None and self._take(stored):
            return
        claim = parse_state(stored.data).claim if stored else None
        is_older = claim is not None and claim.owner == self._owner and claim.generation < self.generation
        if self._tag is None and is_older:
            # It was quicker than our first publish. Once it is claimed over, it cannot publish any more.
            self.claim()
            raise CheckpointSupersededError(
                f"{claim} wrote {self._directory.url}/{STATE_FILE} before the first publish of generation "
                f"{self.generation}, which has taken over now. "
                + (f"Restore {self.latest}, and train on from there." if self.latest else "Save again."),
                latest=self.latest,
            )
        raise self._refusal(claim, is_gone=stored is None)

    def _refusal(self, claim: Claim | None, *, is_gone: bool = False) -> ModelDirInUseError | StaleGenerationError:
        where, who = f"{self._directory.url}/{STATE_FILE}", f"generation {self.generation} of {self._owner}"
        if claim is not None and claim.owner == self._owner and claim.generation > self.generation:
            return StaleGenerationError(f"{where} is claimed by {claim}: {who} can publish nothing more, and must end.")
        reason = "was written by a program that is none of ours, such as a tf.train.Saver"
        if is_gone or claim is not None:
            reason = "was deleted" if is_gone else f"is claimed by {claim}"
        return ModelDirInUseError(
            f"{where} {reason}, while {who} trained there. Let one training at a time write a model_dir: end the other "
            "one, or give this one another model_dir."
        )

    def _read(self) -> Stored | None:
        try:
            return self._directory.read(STATE_FILE)
        except ObjectNotFoundError:
            return None


def compare_by_hand(directory: Directory, name: str, only: Condition) -> None:
    """Compares what the store would not compare itself, so that another writer is found unless it is very quick.

    Raises:
        ConditionFailedError: The object is not what it has to be.
    """
    if directory.conditional:
        return
    entry = directory.stat(name)
    expected = only.tag if isinstance(only, IfUnchanged) else None
    if (entry.tag if entry else None) != expected:
        raise ConditionFailedError(f"{directory.url}/{name} is not what it was, or was not there.")
