"""Which checkpoints a model_dir holds, from its files alone: needs no TensorFlow."""

import glob
import logging
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runner.errors import CheckpointNotFoundError

__all__ = [
    "CHECKPOINT_BASENAME",
    "INPUT_BASENAME",
    "CheckpointInfo",
    "latest_checkpoint",
    "list_checkpoints",
    "step_of",
]

CHECKPOINT_BASENAME = "model.ckpt"
"""Checkpoints are named `model.ckpt-<step>`, as by tf.estimator."""

INPUT_BASENAME = "input"
"""Checkpoints of an input pipeline, which are none of a model: `input.ckpt-<step>`, `input_worker_0.ckpt-<step>`."""

_STATE_FILE = "checkpoint"
_PREFIX = re.compile(r"-(\d+)$")
_SHARD = re.compile(r"\.data-(?P<shard>\d{5})-of-(?P<shards>\d{5})$")
_INPUT = re.compile(rf"^{INPUT_BASENAME}(_[a-z]+_\d+)?\.ckpt-")
_LATEST = re.compile(r'^model_checkpoint_path: "(?P<path>(?:[^"\\]|\\.)*)"$', re.MULTILINE)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class CheckpointInfo:
    """One complete checkpoint.

    Attributes:
        step: global_step of its state.
        prefix: Path without the suffix, as TensorFlow takes it: `<model_dir>/model.ckpt-<step>`.
        size_bytes: Of all of its files.
        modified_at: When its index, which makes it exist, was written; UTC.
        shards: Number of data files.
        latest: Whether the `checkpoint` file names it as the newest.
    """

    step: int
    prefix: str
    size_bytes: int
    modified_at: datetime
    shards: int
    latest: bool


def step_of(prefix: str) -> int | None:
    """The step in a prefix `.../model.ckpt-<step>`; None if it has none."""
    match = _PREFIX.search(prefix)
    return int(match.group(1)) if match else None


def list_checkpoints(model_dir: str) -> list[CheckpointInfo]:
    """All complete checkpoints of a local model_dir, by step; empty if the directory does not exist."""
    named = _named_by_state_file(model_dir)
    latest = None if named is None else os.path.abspath(named)
    infos = [
        _info(index, latest=os.path.abspath(index.with_suffix("")) == latest)
        for index in Path(model_dir).glob("*.index")
    ]
    return sorted(info for info in infos if info)


def latest_checkpoint(model_dir: str) -> str | None:
    """The prefix of the checkpoint to restore from.

    That is the one that the `checkpoint` file names, which may be in another directory. Where that file is missing but
    checkpoints are there, it is the newest complete one, with a warning: restarting from initial weights would throw
    the training away. It may be called while a chief saves.

    Returns:
        The prefix, or None if there is no checkpoint at all.

    Raises:
        CheckpointNotFoundError: The `checkpoint` file names a checkpoint whose files are not all there.
    """
    named = _named_by_state_file(model_dir)
    while named is not None:
        if _is_complete(Path(named)):
            return named
        # The chief publishes a checkpoint before retention deletes the one before.
        before, named = named, _named_by_state_file(model_dir)
        if named == before:
            state_file = os.path.join(model_dir, _STATE_FILE)
            complete = [info.step for info in list_checkpoints(model_dir)]
            raise CheckpointNotFoundError(
                f"{state_file} names {named}, but its files are not all there; complete steps: {complete}. "
                f"Restore the files, or remove {state_file} to go on from the newest complete checkpoint."
            )
    infos = list_checkpoints(model_dir)
    if not infos:
        return None
    _logger.warning(
        "%s has no `checkpoint` file; using its newest complete checkpoint, %s.", model_dir, infos[-1].prefix
    )
    return infos[-1].prefix


def _named_by_state_file(model_dir: str) -> str | None:
    try:
        match = _LATEST.search(Path(model_dir, _STATE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if match is None or not match["path"]:
        return None
    # The escapes of a text proto stand for bytes: older writers put every byte that is not ASCII as \ooo.
    path = match["path"].encode().decode("unicode_escape").encode("latin-1").decode()
    return os.path.join(model_dir, path)  # an absolute path stays what it is


def _is_complete(prefix: Path) -> bool:
    return prefix.with_name(f"{prefix.name}.index").exists() and _count_shards(prefix) > 0


def _count_shards(prefix: Path) -> int:
    """Number of data files; 0 unless all of them are there."""
    names = [path.name for path in prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*")]
    shards = {int(match["shard"]): int(match["shards"]) for match in map(_SHARD.search, names) if match}
    return len(shards) if set(shards.values()) == {len(shards)} else 0


def _info(index: Path, *, latest: bool) -> CheckpointInfo | None:
    prefix = index.with_suffix("")
    if (step := step_of(prefix.name)) is None or _INPUT.match(prefix.name) or not (shards := _count_shards(prefix)):
        return None
    try:
        stats = [path.stat() for path in index.parent.glob(f"{glob.escape(prefix.name)}.*")]
        modified_at = datetime.fromtimestamp(index.stat().st_mtime, tz=UTC)
    except FileNotFoundError:  # deleted by its chief while we looked
        return None
    return CheckpointInfo(step, str(prefix), sum(stat.st_size for stat in stats), modified_at, shards, latest)
