"""Which checkpoint a training goes on from: the latest one that is whole. Needs no TensorFlow."""

import logging
import os
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from runner.checkpoint.inventory import step_of, take_inventory
from runner.checkpoint.state import STATE_FILE, CheckpointState, parse_state
from runner.checkpoint.transitions import adopted, named_in, own_basename
from runner.errors import CheckpointDamagedError, CheckpointError, CheckpointNotFoundError, ObjectNotFoundError
from runner.storage.directory import Directory
from runner.storage.urls import is_local, open_directory, resolve_model_dir

__all__ = ["Selected", "restorable", "select"]

_T = TypeVar("_T")

_logger = logging.getLogger(__name__)

_DAMAGE = (CheckpointDamagedError, CheckpointNotFoundError, ObjectNotFoundError)
"""What tells of a checkpoint itself. An outage of the store is none of these, and no reason to fall back."""


class Selected(NamedTuple, Generic[_T]):
    """What a training goes on from.

    Attributes:
        loaded: What reading the checkpoint gave.
        set_aside: Prefixes of the damaged checkpoints that were passed over for it, the newest first.
    """

    loaded: _T
    set_aside: tuple[str, ...]


def restorable(model_dir: str) -> list[str]:
    """Prefixes of the checkpoints that a training may go on from, the best first.

    That is the one that the `checkpoint` file names as the latest, then the others that it names, of earlier steps.
    Later ones belong to a future that was given up. If nobody has claimed the model_dir yet, whole checkpoints count as
    named.

    Args:
        model_dir: As the user gave it: a path or a URL.
    """
    directory = open_directory(resolve_model_dir(model_dir))
    try:
        state = parse_state(directory.read_bytes(STATE_FILE))
    except ObjectNotFoundError:
        state = CheckpointState(None)
    if state.claim is None:
        state = _adopted(directory, state)
    if state.latest is None:
        return []
    latest = step_of(state.latest)
    others = named_in(directory.url, state) - {own_basename(directory.url, state.latest)}
    earlier = [name for name in others if latest is None or _step(name) < latest]
    basenames = sorted(earlier, key=_step, reverse=True)
    return [_prefix(model_dir, path) for path in (state.latest, *basenames)]


def _adopted(directory: Directory, state: CheckpointState) -> CheckpointState:
    after = adopted(directory.url, state, take_inventory(directory))
    if state.latest is None and after.latest is not None:
        _logger.warning("%s has no `checkpoint` file; going on from its newest whole checkpoint.", directory.url)
    return after


def _prefix(model_dir: str, path: str) -> str:
    """The prefix for what `checkpoint` names: relative to model_dir, absolute, or a URL."""
    return os.path.join(model_dir, path) if is_local(path) else path


def select(model_dir: str, load: Callable[[str], _T]) -> Selected[_T] | None:
    """Loads the latest checkpoint that is whole. To be called by a chief, or by a process that trains alone.

    Args:
        model_dir: Path or URL.
        load: Reads the checkpoint at a prefix, and checks every byte.

    Returns:
        What was loaded; None if there is no checkpoint at all.

    Raises:
        CheckpointError: There are checkpoints, and all of them are damaged.
    """
    damage: dict[str, Exception] = {}
    for prefix in restorable(model_dir):
        try:
            loaded = load(prefix)
        except _DAMAGE as error:
            _logger.warning(
                "%s cannot be restored, and is set aside: %s It stays where it is, but is no longer counted among the "
                "checkpoints. Trying the one before it.",
                prefix,
                error,
            )
            damage[prefix] = error
        else:
            if damage:
                _logger.warning("Going on from %s, the latest checkpoint that is whole.", prefix)
            return Selected(loaded, tuple(damage))
    if damage:
        raise CheckpointError(
            f"No checkpoint in {model_dir} can be restored: {'; '.join(map(str, damage.values()))} Restore its files "
            "from a backup, or start again in another model_dir."
        ) from next(iter(damage.values()))
    return None


def _step(prefix: str) -> int:
    return step_of(prefix) or 0
