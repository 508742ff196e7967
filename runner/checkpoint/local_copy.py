"""Copies of checkpoints on a local disk, for what only TensorFlow reads. Needs no TensorFlow."""

from pathlib import Path

from runner.checkpoint.download import download_checkpoint
from runner.checkpoint.reading import not_valid
from runner.errors import CheckpointNotFoundError
from runner.storage.urls import is_local, open_directory, split_prefix

__all__ = ["local_prefix"]


def local_prefix(prefix: str, scratch: Path) -> str:
    """A prefix of the same checkpoint that TensorFlow can open.

    Args:
        prefix: A local path, which is returned as it is; or a URL, whose files are copied and verified.
        scratch: An empty local directory for the copy.

    Raises:
        CheckpointPathError: There is no checkpoint at the prefix.
        CheckpointDamagedError: It is damaged.
        StorageError: It cannot be read now.
    """
    if is_local(prefix):
        return prefix
    url, basename = split_prefix(prefix)
    try:
        return download_checkpoint(open_directory(url), basename, scratch)
    except CheckpointNotFoundError as error:
        raise not_valid(prefix) from error
