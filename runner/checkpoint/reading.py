"""Reading a checkpoint by its prefix, wherever it lies. Needs no TensorFlow."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from runner.checkpoint.bundle.entries import index_name
from runner.checkpoint.bundle.reader import BundleReader
from runner.checkpoint.listing import latest_checkpoint
from runner.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointPathError,
    ConditionFailedError,
    ObjectNotFoundError,
)
from runner.storage.urls import is_local, open_directory, split_prefix

__all__ = ["exists", "find_checkpoint", "not_valid", "open_checkpoint", "read_newest", "read_tensor"]

_T = TypeVar("_T")


def exists(prefix: str) -> bool:
    """Whether there is a checkpoint at a prefix: its index, which is written last and deleted first.

    Raises:
        StorageError: The store does not tell.
    """
    url, basename = split_prefix(prefix)
    return open_directory(url).stat(index_name(basename)) is not None


def find_checkpoint(path: str) -> str:
    """The prefix that a path stands for: that of a checkpoint, or that of the latest one in a directory.

    Args:
        path: A local path or a URL.

    Raises:
        CheckpointPathError: There is no checkpoint.
        CheckpointNotFoundError: It is a directory whose latest checkpoint is not whole.
    """
    if not (os.path.isdir(path) if is_local(path) else not exists(path)):
        return path
    if (latest := latest_checkpoint(path.rstrip("/"))) is None:
        raise CheckpointPathError(f"Couldn't find 'checkpoint' file or checkpoints in given directory {path}")
    return latest


def open_checkpoint(prefix: str) -> BundleReader:
    """A reader of the checkpoint at a prefix, which has read and checked its index.

    Args:
        prefix: `<model_dir>/model.ckpt-<step>`: a local path or a URL.

    Raises:
        CheckpointPathError: There is none at the prefix.
        CheckpointDamagedError: Its index is damaged, or its data are not as long as the index says, or not there.
        StorageError: It cannot be read now.
    """
    try:
        url, basename = split_prefix(prefix)
    except ValueError as error:
        raise not_valid(prefix) from error
    try:
        return BundleReader(open_directory(url), basename)
    except CheckpointNotFoundError as error:
        raise not_valid(prefix) from error


def not_valid(prefix: str) -> CheckpointPathError:
    """The error for a prefix without a checkpoint, in the words of TensorFlow."""
    return CheckpointPathError(f"The passed save_path is not a valid checkpoint: {prefix}")


def read_tensor(prefix: str, name: str) -> Any:
    """One tensor of a checkpoint, as `tf.train.load_variable` returns it: an array, or the value of a scalar.

    Raises:
        KeyError: The checkpoint has no such tensor.
    """
    reader = open_checkpoint(prefix)
    if name not in reader.entries:
        raise KeyError(name)
    return reader.read([name])[name][()]


def read_newest(prefix: str, *, latest: Callable[[], str | None], read: Callable[[str], _T]) -> _T:
    """Reads a checkpoint or, if retention deletes it meanwhile, the newest one.

    Args:
        prefix: What was the latest checkpoint a moment ago.
        latest: Looks for the latest one.
        read: Takes a prefix.

    Returns:
        What `read` did.

    Raises:
        CheckpointError: The checkpoint cannot be read, and was not deleted in favour of a newer one.
        ConditionFailedError: Likewise.
        ObjectNotFoundError: Likewise.
    """
    while True:
        try:
            return read(prefix)
        except (CheckpointError, ConditionFailedError, ObjectNotFoundError):
            if exists(prefix) or (newest := latest()) is None or newest == prefix:
                raise
            prefix = newest
