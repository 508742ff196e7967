"""Exports below a URL, in a store that has no rename."""

import logging
import os
import re
import secrets
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from runner.errors import ConditionFailedError, StorageError
from runner.storage.directory import Directory, Entry, IfAbsent
from runner.storage.transfer import upload_file
from runner.storage.urls import join

__all__ = ["RemoteExports"]

_logger = logging.getLogger("tensorflow")

_TIMESTAMP = re.compile(r"^\d{10}$")
_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
_MARK = ".incomplete"
_ABANDONED_AFTER = timedelta(days=1)


class RemoteExports:
    """The exports below a URL, each of which appears whole or not at all.

    An export exists as soon as `saved_model.pb` or `.pbtxt` does, which every loader looks for: it is written last, and
    deleted first. While that is going on there is an object `.incomplete` beside it; what a process that was killed has
    left is known by it, and deleted by a later export.

    Args:
        directory: The base; a remote one.
        abandoned_after: How long ago the last object of an incomplete export was written, by the clock of the store,
            when it is deleted. More than the upload of any one file takes.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        abandoned_after: timedelta = _ABANDONED_AFTER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._abandoned_after = abandoned_after
        self._clock = clock

    def publish(self, write: Callable[[bytes], None]) -> bytes:
        """Adds an export, and returns its URL: the base and the seconds since 1970.

        Args:
            write: Writes it to the empty local directory that it is given.

        Raises:
            StorageError: The store did not take it, or another process took it for abandoned; it does not exist then.
        """
        with tempfile.TemporaryDirectory(prefix="export-") as scratch:
            write(os.fsencode(scratch))
            nonce = secrets.token_hex(16).encode()
            name = self._claim(nonce)
            try:
                self._upload(name, Path(scratch), nonce)
            except StorageError:
                self._clear(name, nonce)
                raise
        self._unmark(name)
        url = join(self._directory.url, name)
        # TensorFlow has named the local copy, which is gone by now.
        _logger.info("SavedModel uploaded to: %s", url)
        return os.fsencode(url)

    def versions(self) -> list[str]:
        """The names of the exports, from the oldest to the newest."""
        return sorted(name for name, entries in self._folders().items() if _exists(entries))

    def delete_older(self, *, keep: int) -> None:
        """Deletes all but the newest `keep` exports."""
        folders = self._folders()
        for name in sorted(name for name, entries in folders.items() if _exists(entries))[:-keep]:
            self._directory.write_bytes(f"{name}/{_MARK}", b"to be deleted")
            self._delete(folders[name])
            self._directory.delete(f"{name}/{_MARK}")

    def _claim(self, nonce: bytes) -> str:
        """A name that is nobody else's, marked as ours."""
        seconds = int(self._clock())
        while True:
            name = f"{seconds:010d}"
            mark = f"{name}/{_MARK}"
            if not self._directory.list(name, recursive=True) and self._mark(mark, nonce):
                entries = self._directory.list(name, recursive=True)
                if [entry.name for entry in entries] == [mark]:
                    self._sweep(own=name, now=entries[0].modified_at)
                    return name
                # Published by somebody between our two looks.
                self._directory.delete(mark)
            seconds += 1

    def _mark(self, mark: str, nonce: bytes) -> bool:
        try:
            self._directory.write_bytes(mark, nonce, only=IfAbsent())
        except ConditionFailedError:
            return self._is_marked(mark, nonce)  # by ourselves, if a reply was lost
        return self._is_marked(mark, nonce)  # without conditions the last one to write has it

    def _is_marked(self, mark: str, nonce: bytes) -> bool:
        try:
            return self._directory.read_bytes(mark) == nonce
        except FileNotFoundError:
            return False

    def _upload(self, name: str, scratch: Path, nonce: bytes) -> None:
        paths = {path.relative_to(scratch).as_posix(): path for path in sorted(scratch.rglob("*")) if path.is_file()}
        models = [paths.pop(model) for model in _MODEL_FILES if model in paths]
        for part, path in paths.items():
            upload_file(self._directory, f"{name}/{part}", path)
        expected = {f"{name}/{part}": path.stat().st_size for part, path in paths.items()}
        self._check_whole(name, expected, nonce)
        for model in models:
            self._upload_model(f"{name}/{model.name}", model)

    def _check_whole(self, name: str, expected: dict[str, int], nonce: bytes) -> None:
        """Raises unless all is there: a process that was stopped for long may have been taken for a dead one."""
        there = {entry.name: entry.size_bytes for entry in self._directory.list(name, recursive=True)}
        mark = f"{name}/{_MARK}"
        if not self._is_marked(mark, nonce) or {**there, mark: 0} != {**expected, mark: 0}:
            raise StorageError(
                f"The export {join(self._directory.url, name)} was deleted while it was being uploaded, since nothing "
                f"was written to it for {self._abandoned_after}. Export again."
            )

    def _upload_model(self, name: str, path: Path) -> None:
        try:
            upload_file(self._directory, name, path, only=IfAbsent())
        except ConditionFailedError:
            # Nobody else writes in what we have marked: the reply to our own first attempt was lost.
            entry = self._directory.stat(name)
            if entry is None or entry.size_bytes != path.stat().st_size:
                raise

    def _clear(self, name: str, nonce: bytes) -> None:
        """Deletes what has been uploaded, if the store lets us; else it is left for a later export."""
        try:
            if self._is_marked(f"{name}/{_MARK}", nonce):
                self._delete(self._directory.list(name, recursive=True))
        except StorageError as error:
            _logger.warning(
                "What is there of the export %s stays until a later one: %s", join(self._directory.url, name), error
            )

    def _unmark(self, name: str) -> None:
        try:
            self._directory.delete(f"{name}/{_MARK}")
        except StorageError as error:  # no reason to fail: it is published
            _logger.warning("%s/%s stays until a later export: %s", join(self._directory.url, name), _MARK, error)

    def _sweep(self, *, own: str, now: datetime) -> None:
        """Deletes what dead processes have left."""
        for name, entries in self._folders().items():
            marks = [entry for entry in entries if entry.name == f"{name}/{_MARK}"]
            is_old = now - max(entry.modified_at for entry in entries) >= self._abandoned_after
            if name == own or not marks or not is_old:
                continue
            if _exists(entries):  # killed right after it was published, or before it was to be deleted: it is whole
                self._directory.delete(marks[0].name)
                continue
            _logger.warning("Deleting %s, an export that was never finished.", join(self._directory.url, name))
            self._delete(entries)

    def _delete(self, entries: list[Entry]) -> None:
        """Deletes in the order in which a reader, or a later sweep, understands what is left."""
        rank = {**dict.fromkeys(_MODEL_FILES, 0), _MARK: 2}
        for entry in sorted(entries, key=lambda entry: rank.get(_basename(entry), 1)):
            self._directory.delete(entry.name)

    def _folders(self) -> dict[str, list[Entry]]:
        folders = defaultdict(list)
        for entry in self._directory.list(recursive=True):
            name, slash, _ = entry.name.partition("/")
            if slash and _TIMESTAMP.match(name):
                folders[name].append(entry)
        return dict(folders)


def _exists(entries: list[Entry]) -> bool:
    return any(_basename(entry) in _MODEL_FILES for entry in entries)


def _basename(entry: Entry) -> str:
    """The name within its export."""
    return entry.name.partition("/")[2]
