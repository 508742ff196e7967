"""Where a checkpoint comes from: which writer made it, and with which code. Needs no TensorFlow."""

import shlex

from runner.checkpoint.commits import read_commit
from runner.errors import CheckpointError, StorageError
from runner.storage.urls import open_directory, split_prefix

__all__ = ["describe_origin"]


def describe_origin(prefix: str) -> str:
    """Says who wrote a checkpoint, and how to get the code of that time; empty where nothing is known.

    For a message about something else: what goes wrong here is no error.
    """
    try:
        url, basename = split_prefix(prefix)
        commit = read_commit(open_directory(url), basename)
    except (CheckpointError, StorageError, ValueError):
        return ""
    if commit is None:
        return ""
    writer = f"It was written by generation {commit.generation} of {commit.owner}, {commit.time:%Y-%m-%d %H:%M} UTC"
    if commit.code is None or commit.step is None:
        return f"{writer}."
    command = f"runner checkpoints {shlex.quote(url)} --code {commit.step} DIR"
    return f"{writer}, with the code snapshot {commit.code}: `{command}` unpacks it."
