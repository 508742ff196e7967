"""Transitions: from what a `checkpoint` file says to what it says next."""

import os
from collections.abc import Collection, Mapping
from dataclasses import replace

from runner.checkpoint.inventory import CheckpointFiles, is_of_a_model, step_of
from runner.checkpoint.retention import Published, Retention
from runner.checkpoint.state import CheckpointState
from runner.errors import CheckpointNotFoundError
from runner.storage.urls import is_local

__all__ = ["adopted", "named_in", "own_basename", "published", "without"]


def own_basename(url: str, path: str) -> str | None:
    """The basename of a checkpoint that `checkpoint` names; None if it is in another directory.

    Args:
        url: The model_dir.
        path: Relative to it, absolute, or a URL.
    """
    folder, _, basename = path.rpartition("/")
    if folder in {"", "."}:
        return basename
    is_here = folder == url or (
        is_local(url) and is_local(folder) and os.path.realpath(os.path.join(url, folder)) == os.path.realpath(url)
    )
    return basename if is_here else None


def named_in(url: str, state: CheckpointState) -> frozenset[str]:
    """The basenames of all checkpoints of this model_dir that are named, in whatever capacity."""
    names = (own_basename(url, path) for path in state.named)
    return frozenset(name for name in names if name is not None)


def adopted(url: str, state: CheckpointState, inventory: Mapping[str, CheckpointFiles]) -> CheckpointState:
    """A state that we did not write, with all that is whole in the model_dir: none of that is ever taken for an orphan.

    Args:
        url: The model_dir.
        state: If it has nothing published, the newest whole checkpoint becomes the latest.
        inventory: What is there.
    """
    whole = [files.basename for files in inventory.values() if files.is_whole]
    if state.latest is None and whole:
        state = CheckpointState(whole[-1], (whole[-1],), claim=state.claim)
    named = named_in(url, state)
    return replace(state, kept=tuple(name for name in whole if name not in named))


def published(
    url: str,
    state: CheckpointState,
    basename: str,
    *,
    now: float,
    run_began: float,
    times: Mapping[str, float],
    retention: Retention,
    evaluations: Mapping[str, Mapping[str, float]],
) -> tuple[CheckpointState, frozenset[str]]:
    """The state after a checkpoint has been published, and the checkpoints that it no longer names.

    Args:
        url: The model_dir.
        state: The one before.
        basename: Of the new checkpoint.
        now: Seconds since the epoch.
        run_began: Likewise.
        times: Basename -> likewise, of those for which the state has no timestamp; one without any is gone.
        retention: Decides.
        evaluations: Basename -> metrics.
    """
    before = [each for each in _counted(url, state, times) if each.basename != basename]
    # Clocks differ: nothing was published later than now.
    before = [Published(each.basename, min(each.timestamp, now)) for each in before]
    last_preserved = min(state.last_preserved or run_began, now)
    retained = retention.retain(
        [*before, Published(basename, now)], last_preserved=last_preserved, evaluations=evaluations
    )
    next_state = CheckpointState(
        latest=basename,
        paths=tuple(each.basename for each in retained.listed),
        timestamps=tuple(each.timestamp for each in retained.listed),
        last_preserved=retained.last_preserved,
        kept=(*(path for path in state.kept if path != basename), *retained.kept),
    )
    return next_state, frozenset(retained.dropped)


def without(url: str, state: CheckpointState, damaged: Collection[str]) -> CheckpointState:
    """The state without some checkpoints; the newest of the others is the latest.

    Raises:
        CheckpointNotFoundError: There is no other.
    """

    def stays(path: str) -> bool:
        return own_basename(url, path) not in damaged

    timestamps = state.timestamps or (None,) * len(state.paths)
    listed = [pair for pair in zip(state.paths, timestamps, strict=True) if stays(pair[0])]
    kept = tuple(path for path in state.kept if stays(path))
    latest = state.latest
    if latest is None or not stays(latest):
        others = [*sorted(kept, key=lambda path: step_of(path) or 0), *(path for path, _ in listed)]
        if not others:
            raise CheckpointNotFoundError(
                f"{url} has no checkpoint but {', '.join(sorted(damaged))}. Restore it from a backup, or begin anew in "
                "another model_dir."
            )
        latest = others[-1]
    return replace(
        state,
        latest=latest,
        paths=tuple(path for path, _ in listed),
        timestamps=tuple(timestamp for _, timestamp in listed if timestamp is not None),
        kept=kept,
    )


def _counted(url: str, state: CheckpointState, times: Mapping[str, float]) -> list[Published]:
    """Those of this model_dir, which alone are ours to delete, with their times."""
    timestamps = state.timestamps or (None,) * len(state.paths)
    counted = []
    for path, timestamp in zip(state.paths, timestamps, strict=True):
        name = own_basename(url, path)
        timestamp = times.get(name or "") if timestamp is None else timestamp  # noqa: PLW2901
        if name is not None and is_of_a_model(name) and timestamp is not None:
            counted.append(Published(name, timestamp))
    return counted
