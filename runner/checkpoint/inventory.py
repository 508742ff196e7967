"""The files of checkpoints in a model_dir: how they are named, and which of them belong together."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runner.checkpoint.commits import COMMITS, commit_name
from runner.storage.directory import Directory, Entry

__all__ = [
    "CHECKPOINT_BASENAME",
    "INPUT_BASENAME",
    "CheckpointFiles",
    "basename_of",
    "find_files",
    "is_of_a_model",
    "step_of",
    "take_inventory",
]

CHECKPOINT_BASENAME = "model.ckpt"
"""Checkpoints are named `model.ckpt-<step>`, as by tf.estimator."""

INPUT_BASENAME = "input"
"""Checkpoints of an input pipeline, which are none of a model: `input.ckpt-<step>`, `input_worker_0.ckpt-<step>`."""

_STEP = re.compile(r"-(\d+)$")
_FILE = re.compile(r"(?P<basename>[^/]+)\.(?P<part>index|meta|data-(?P<shard>\d{5})-of-(?P<shards>\d{5}))")
_COMMIT = re.compile(rf"{COMMITS}/(?P<basename>[^/]+)\.json")
_INPUT = re.compile(rf"{INPUT_BASENAME}(_[a-z]+_\d+)?\.ckpt-.*")


@dataclass(frozen=True)
class CheckpointFiles:
    """The files that a checkpoint has in a model_dir, some of which may be missing.

    Attributes:
        basename: `model.ckpt-<step>`.
        entries: Its index, data shards and graph, by name.
    """

    basename: str
    entries: tuple[Entry, ...]

    @property
    def index(self) -> Entry | None:
        """The index, which makes the checkpoint exist."""
        return next((entry for entry in self.entries if entry.name == f"{self.basename}.index"), None)

    @property
    def is_ours(self) -> bool:
        """Whether it is named as the checkpoints of a training are."""
        return self.basename == f"{CHECKPOINT_BASENAME}-{step_of(self.basename)}"

    @property
    def has_data(self) -> bool:
        """Whether there is any data shard."""
        return any(match["shard"] for match in self._matches())

    @property
    def shards(self) -> int:
        """Number of data shards; 0 unless there are all of them."""
        found: dict[int, set[int]] = {}
        for match in self._matches():
            if match["shard"]:
                found.setdefault(int(match["shards"]), set()).add(int(match["shard"]))
        # One that did not finish may have left shards of another division.
        return max((count for count, shards in found.items() if shards == {*range(count)}), default=0)

    @property
    def is_whole(self) -> bool:
        """Whether no file is missing, as far as their names tell."""
        return self.index is not None and self.shards > 0

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(entry.size_bytes for entry in self.entries)

    def in_order_of_deletion(self) -> list[str]:
        """The names, and that of the commit: the index first, so that nobody finds a checkpoint without its data.

        Data without an index tell who comes later, if this is not finished, that there is something to delete.
        """
        order = {"index": 0, "meta": 1, "data": 2}
        names = {entry.name: order[match["part"][:5].rstrip("-")] for entry, match in self._pairs()}
        return [*sorted(names, key=lambda name: (names[name], name)), commit_name(self.basename)]

    def _pairs(self) -> list[tuple[Entry, re.Match[str]]]:
        return [(entry, match) for entry in self.entries if (match := _FILE.fullmatch(entry.name))]

    def _matches(self) -> list[re.Match[str]]:
        return [match for _, match in self._pairs()]


def step_of(prefix: str) -> int | None:
    """The step in a prefix `.../model.ckpt-<step>`; None if it has none."""
    match = _STEP.search(prefix)
    return int(match.group(1)) if match else None


def basename_of(name: str) -> str | None:
    """The checkpoint that an object belongs to; None if it is no object of a checkpoint."""
    match = _FILE.fullmatch(name) or _COMMIT.fullmatch(name)
    return match["basename"] if match else None


def is_of_a_model(basename: str) -> bool:
    """Whether a checkpoint is one of a model, at some step, and not of an input pipeline."""
    return step_of(basename) is not None and not _INPUT.fullmatch(basename)


def take_inventory(directory: Directory) -> Mapping[str, CheckpointFiles]:
    """The checkpoints of models in a directory, by basename, in the order of their steps. Costs one listing."""
    return _group(directory.list())


def find_files(directory: Directory, basename: str) -> CheckpointFiles:
    """The files of one checkpoint, whatever it is called. Costs one listing."""
    matches = [(entry, _FILE.fullmatch(entry.name)) for entry in directory.list()]
    return CheckpointFiles(
        basename, tuple(entry for entry, match in matches if match and match["basename"] == basename)
    )


def _group(entries: Iterable[Entry]) -> Mapping[str, CheckpointFiles]:
    files: dict[str, list[Entry]] = {}
    for entry in entries:
        if (match := _FILE.fullmatch(entry.name)) and is_of_a_model(match["basename"]):
            files.setdefault(match["basename"], []).append(entry)
    names = sorted(files, key=lambda name: (step_of(name) or 0, name))
    return {name: CheckpointFiles(name, tuple(files[name])) for name in names}
