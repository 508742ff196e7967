"""What event files say of the evaluations that were."""

import glob
import logging
import os
from collections.abc import Iterator
from pathlib import PurePosixPath

import tensorflow as tf

from runner.estimator.events.records import split_records
from runner.estimator.remote import is_remote
from runner.storage.urls import open_directory, resolve_model_dir

__all__ = ["EventHistory"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")

_Results = list[tuple[int, dict[str, float]]]


class EventHistory:
    """The scalars in event files. A file is read again only when it has changed. Not thread-safe.

    Args:
        directory: What the pattern is relative to; a local path or a URL.
        pattern: Of the files, as in `eval/*.tfevents.*`; `*` and `?` stand for no `/`. It may name a folder elsewhere.
    """

    def __init__(self, directory: str, pattern: str) -> None:
        self._files = _files(directory, pattern)
        self._read: dict[str, tuple[str, _Results]] = {}  # by path, with the tag that it had

    def results(self) -> Iterator[tuple[int, dict[str, float]]]:
        """The step and the scalars of each event that has any, file by file in the order of their names.

        What a file has after a record that is damaged, or not whole yet, is left out with a warning.

        Raises:
            StorageError: A remote directory cannot be read.
        """
        for path, tag in self._files.list():
            if path not in self._read or self._read[path][0] != tag:
                self._read[path] = tag, _scalars(path, self._files.read(path))
            yield from self._read[path][1]


class _LocalFiles:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def list(self) -> list[tuple[str, str]]:
        """The paths and tags of the files."""
        paths = [(path, tf.io.gfile.stat(path)) for path in sorted(tf.io.gfile.glob(self._pattern))]
        return [(path, f"{stat.length} {stat.mtime_nsec}") for path, stat in paths]

    def read(self, path: str) -> bytes:
        """All of a file."""
        with tf.io.gfile.GFile(path, "rb") as file:
            data: bytes = file.read()
        return data


class _RemoteFiles:
    def __init__(self, url: str, pattern: PurePosixPath) -> None:
        self._directory = open_directory(resolve_model_dir(url))
        self._pattern = pattern

    def list(self) -> list[tuple[str, str]]:
        """The names and tags of the files."""
        parts = self._pattern.parts
        plain = next(index for index, part in enumerate(parts) if set(part) & set("*?[") or index == len(parts) - 1)
        entries = self._directory.list("/".join(parts[:plain]), recursive=plain < len(parts) - 1)
        return [(entry.name, entry.tag) for entry in entries if self._is_meant(PurePosixPath(entry.name))]

    def read(self, path: str) -> bytes:
        """All of a file."""
        return self._directory.read_bytes(path)

    def _is_meant(self, name: PurePosixPath) -> bool:
        return len(name.parts) == len(self._pattern.parts) and name.match(str(self._pattern))


def _files(directory: str, pattern: str) -> _LocalFiles | _RemoteFiles:
    if is_remote(pattern):
        directory, _, pattern = pattern.rpartition("/")
    if is_remote(directory) and not os.path.isabs(pattern):
        return _RemoteFiles(directory, PurePosixPath(pattern))
    return _LocalFiles(os.path.join(glob.escape(directory), pattern))


def _scalars(path: str, data: bytes) -> _Results:
    records, size_bytes = split_records(data)
    if size_bytes < len(data):
        _logger.warning(
            "The event file %s ends in the middle of a record, or is damaged: its last %d bytes are left out.",
            path,
            len(data) - size_bytes,
        )
    results = []
    for event in map(_v1.Event.FromString, records):
        values = {value.tag: value.simple_value for value in event.summary.value if value.HasField("simple_value")}
        if values:
            results.append((event.step, values))
    return results
