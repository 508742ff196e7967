"""Which checkpoints a model_dir holds, on any store, and in what state they are: needs no TensorFlow."""

import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from runner.checkpoint.commits import Commit, read_commit
from runner.checkpoint.evaluations import read_evaluations
from runner.checkpoint.inventory import (
    INPUT_BASENAME,
    CheckpointFiles,
    find_files,
    is_of_a_model,
    step_of,
    take_inventory,
)
from runner.checkpoint.state import STATE_FILE, CheckpointState, parse_state
from runner.checkpoint.transitions import named_in, own_basename
from runner.errors import CheckpointNotFoundError, ObjectNotFoundError
from runner.storage.directory import Directory, Stored
from runner.storage.retry import Retry
from runner.storage.urls import is_local, open_directory, resolve_model_dir, split_prefix

__all__ = [
    "INPUT_BASENAME",
    "CheckpointFollower",
    "CheckpointInfo",
    "latest_checkpoint",
    "list_checkpoints",
    "step_of",
    "survey_checkpoints",
]

_State = Literal["complete", "damaged", "orphan"]

_REQUESTS = 16

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class CheckpointInfo:
    """One checkpoint.

    Attributes:
        step: global_step of its state.
        prefix: Path or URL without the suffix, as TensorFlow takes it: `<model_dir>/model.ckpt-<step>`.
        size_bytes: Of all of its files.
        modified_at: When its index, which makes it exist, was written; UTC.
        shards: Number of data files; 0 unless all of them are there.
        latest: Whether the `checkpoint` file names it as the newest.
        state: "complete"; "damaged" if a file is missing or has another size than was recorded when it was written;
            "orphan" if `checkpoint` does not name it: not yet, never, or no longer.
        generation: Of the writer; None if that was none of ours.
        code: sha256 of the code snapshot that wrote it; None without one.
        metrics: What it was worth, by the names of the metrics; empty if it was not evaluated.
    """

    step: int
    prefix: str
    size_bytes: int
    modified_at: datetime
    shards: int
    latest: bool
    state: _State = "complete"
    generation: int | None = field(default=None, compare=False)
    code: str | None = field(default=None, compare=False)
    metrics: Mapping[str, float] = field(default_factory=dict, compare=False)


def list_checkpoints(model_dir: str) -> list[CheckpointInfo]:
    """All complete checkpoints of a model_dir, by step; empty if the directory does not exist.

    Args:
        model_dir: Path or URL.
    """
    return [info for info in survey_checkpoints(model_dir) if info.state == "complete"]


def survey_checkpoints(model_dir: str, *, retry: Retry | None = None) -> list[CheckpointInfo]:
    """All checkpoints of a model_dir in whatever state, by step. Their content is not read.

    Args:
        model_dir: Path or URL.
        retry: For how long a store that does not answer is asked again; None means as long as a training does.
    """
    directory = _open(model_dir, retry=retry)
    # In this order what is published meanwhile is found, and what is deleted meanwhile is not called damaged.
    inventory = dict(take_inventory(directory))
    state = _read_state(directory)
    names = named_in(directory.url, state)
    for name in names:
        if is_of_a_model(name):
            inventory.setdefault(name, CheckpointFiles(name, ()))
            if not inventory[name].is_whole:
                inventory[name] = find_files(directory, name)
    if not inventory:
        return []
    with ThreadPoolExecutor(min(_REQUESTS, len(inventory))) as pool:
        commits = dict(zip(inventory, pool.map(lambda name: read_commit(directory, name), inventory), strict=True))
    metrics = read_evaluations(directory)
    return sorted(
        _info(model_dir, files, state=state, names=names, commit=commits[name], metrics=metrics.get(name, {}))
        for name, files in inventory.items()
    )


def latest_checkpoint(model_dir: str) -> str | None:
    """The prefix of the checkpoint to restore from.

    That is the one that the `checkpoint` file names, which may be in another directory. Where that file is missing but
    checkpoints are there, it is the newest complete one, with a warning: restarting from initial weights would throw
    the training away. It may be called while a chief saves.

    Args:
        model_dir: Path or URL.

    Returns:
        The prefix, or None if there is no checkpoint at all.

    Raises:
        CheckpointNotFoundError: The `checkpoint` file names a checkpoint whose files are not all there.
    """
    return CheckpointFollower(model_dir).poll()


class CheckpointFollower:
    """Tells again and again which checkpoint of a model_dir is the latest, at the cost of one small request.

    Args:
        model_dir: Path or URL.
    """

    def __init__(self, model_dir: str) -> None:
        self._model_dir = model_dir
        self._directory = _open(model_dir)
        self._tag: str | None = None
        self._prefix: str | None = None
        self._warned_of: str | None = None

    def poll(self) -> str | None:
        """The prefix of the checkpoint to restore from now; see `latest_checkpoint`."""
        tag = self._tag
        while (stored := self._read_if_changed(tag)) is not None:
            tag, state = stored.tag, parse_state(stored.data)
            if state.latest is None and state.claim is None:
                self._tag, self._prefix = None, self._newest()
                break
            prefix = None if state.latest is None else _prefix(self._model_dir, state.latest)
            if prefix is None or self._is_whole(state.latest or ""):
                # Not before: after an error the next poll has to look again.
                self._tag, self._prefix = tag, prefix
                break
            # The chief publishes a checkpoint before retention deletes the one before: then the file has changed.
            if _read_state(self._directory).latest == state.latest:
                raise self._incomplete(prefix)
        return self._prefix

    def _read_if_changed(self, tag: str | None) -> Stored | None:
        """The file, empty if there is none; None if it still has that tag."""
        try:
            return self._directory.read_if_changed(STATE_FILE, tag) if tag else self._directory.read(STATE_FILE)
        except ObjectNotFoundError:
            return Stored(b"", "")

    def _is_whole(self, path: str) -> bool:
        name = own_basename(self._directory.url, path)
        if name is not None:
            return find_files(self._directory, name).is_whole
        folder, basename = split_prefix(_prefix(self._directory.url, path))
        return find_files(open_directory(folder), basename).is_whole

    def _newest(self) -> str | None:
        """The newest that looks complete, where no `checkpoint` tells."""
        whole = [name for name, files in take_inventory(self._directory).items() if files.is_whole]
        if not whole:
            return None
        prefix = _prefix(self._model_dir, whole[-1])
        if prefix != self._warned_of:
            self._warned_of = prefix
            _logger.warning(
                "%s has no `checkpoint` file; using its newest complete checkpoint, %s.", self._model_dir, prefix
            )
        return prefix

    def _incomplete(self, prefix: str) -> CheckpointNotFoundError:
        state_file = _prefix(self._model_dir, STATE_FILE)
        complete = [info.step for info in list_checkpoints(self._model_dir)]
        return CheckpointNotFoundError(
            f"{state_file} names {prefix}, but its files are not all there; complete steps: {complete}. "
            f"Restore the files, or remove {state_file} to go on from the newest complete checkpoint."
        )


def _open(model_dir: str, *, retry: Retry | None = None) -> Directory:
    # A local directory may have any name: what TensorFlow takes for a pattern matters where something is written.
    url = os.path.abspath(model_dir) if is_local(model_dir) else resolve_model_dir(model_dir)
    return open_directory(url, retry=retry)


def _prefix(model_dir: str, path: str) -> str:
    """The prefix of what `checkpoint` names: an absolute path, or a URL, stays what it is."""
    if is_local(model_dir) and is_local(path):
        return os.path.join(model_dir, path)
    return path if path.startswith("/") or not is_local(path) else f"{model_dir.rstrip('/')}/{path}"


def _read_state(directory: Directory) -> CheckpointState:
    try:
        return parse_state(directory.read_bytes(STATE_FILE))
    except ObjectNotFoundError:
        return CheckpointState(None)


def _info(
    model_dir: str,
    files: CheckpointFiles,
    *,
    state: CheckpointState,
    names: frozenset[str],
    commit: Commit | None,
    metrics: Mapping[str, float],
) -> CheckpointInfo:
    name = files.basename
    times = [entry.modified_at for entry in ([files.index] if files.index else files.entries)]
    latest = None if state.latest is None else _real(_prefix(model_dir, state.latest))
    return CheckpointInfo(
        step=step_of(name) or 0,
        prefix=_prefix(model_dir, name),
        size_bytes=files.size_bytes,
        modified_at=max(times, default=commit.time if commit else datetime.fromtimestamp(0, UTC)),
        shards=files.shards,
        latest=_real(_prefix(model_dir, name)) == latest,
        state=_condition(files, commit, is_named=name in names, is_claimed=state.claim is not None),
        generation=commit.generation if commit else None,
        code=commit.code if commit else None,
        metrics=metrics,
    )


def _condition(files: CheckpointFiles, commit: Commit | None, *, is_named: bool, is_claimed: bool) -> _State:
    # Without a claim in it, `checkpoint` is not known to name all that was published.
    if not is_named and (is_claimed or files.index is None):
        return "orphan"
    sizes = {entry.name: entry.size_bytes for entry in files.entries}
    is_recorded = commit is None or all(sizes.get(name) == size for name, size in commit.objects.items())
    return "complete" if files.is_whole and is_recorded else "damaged"


def _real(prefix: str) -> str:
    return os.path.abspath(prefix) if is_local(prefix) else prefix
