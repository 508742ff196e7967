"""Copies of checkpoints on a local disk, for what only TensorFlow reads and writes. Needs no TensorFlow."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from runner.checkpoint.bundle.entries import data_name, index_name
from runner.checkpoint.reading import open_checkpoint
from runner.errors import CheckpointDamagedError
from runner.storage.directory import Directory
from runner.storage.urls import is_local, open_directory, split_prefix

__all__ = ["local_prefix"]

_PIECE_BYTES = 8 << 20
_THREADS = 4


def local_prefix(prefix: str, scratch: Path) -> str:
    """A prefix of the same checkpoint that TensorFlow can open.

    Args:
        prefix: A local path, which is returned as it is; or a URL, whose index and data are copied and verified.
        scratch: An empty local directory for the copy.

    Raises:
        CheckpointPathError: There is no checkpoint at the prefix.
        CheckpointDamagedError: It is damaged.
        StorageError: It cannot be read now.
    """
    url, basename = split_prefix(prefix)
    if is_local(url):
        return prefix
    shards = open_checkpoint(prefix).index.shards
    directory = open_directory(url)
    with ThreadPoolExecutor(_THREADS) as threads:
        for name in (*(data_name(basename, shard, shards) for shard in range(shards)), index_name(basename)):
            _copy(directory, name, scratch / name, threads)
    copied = str(scratch / basename)
    open_checkpoint(copied).verify()
    return copied


def _copy(directory: Directory, name: str, target: Path, threads: ThreadPoolExecutor) -> None:
    entry = directory.stat(name)
    if entry is None:
        raise CheckpointDamagedError(f"{directory.url}/{name} is missing.")
    target.touch()
    if not entry.size_bytes:
        return
    content = np.memmap(target, np.uint8, "w+", shape=(entry.size_bytes,))

    def read(start: int) -> None:
        piece = content[start : start + _PIECE_BYTES].data
        directory.read_into(name, piece, offset=start, tag=entry.tag)

    list(threads.map(read, range(0, entry.size_bytes, _PIECE_BYTES)))  # raises what a piece raised
    content.flush()
