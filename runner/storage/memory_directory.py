"""A directory in the memory of this process: fsspec's `memory://`."""

import threading
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, timedelta
from typing import Any, ClassVar

import fsspec

from runner.errors import ConditionFailedError, ObjectNotFoundError, StorageError
from runner.storage.conditions import check_condition
from runner.storage.directory import Condition, Directory, Entry, Stored, Upload
from runner.storage.failures import translated
from runner.storage.memory_upload import MemoryUpload
from runner.storage.names import checked_name

__all__ = ["MemoryDirectory"]


class MemoryDirectory(Directory):
    """Objects in fsspec's memory file system, which all of a process shares, and nobody else.

    It behaves as an object store does: there is no lock for writers, and conditions hold.

    Args:
        url: `memory://` and a path.
    """

    locks = False
    conditional = True

    # One for all directories, as the memory itself is. A file in it has one position for all of its readers.
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs = fsspec.filesystem("memory")
        self._root = "/" + url.split("://", 1)[1].strip("/")

    def check_writable(self) -> None:
        """Memory always is."""

    def read(self, name: str) -> Stored:
        """The whole content of an object, and its tag."""
        with self._lock:
            file = self._file(name)
            return Stored(file.getvalue(), _tag(file))

    def read_if_changed(self, name: str, tag: str) -> Stored | None:
        """The content of an object unless it still has that tag."""
        with self._lock:
            file = self._file(name)
            return None if _tag(file) == tag else Stored(file.getvalue(), _tag(file))

    def read_into(self, name: str, buffer: memoryview, *, offset: int = 0, tag: str | None = None) -> None:
        """Fills a buffer from part of an object; see Directory."""
        with self._lock:
            file = self._file(name)
            if tag is not None and _tag(file) != tag:
                raise ConditionFailedError(f"{self.url}/{name} has been replaced while it was read.")
            with file.getbuffer() as content:
                found = content[offset : offset + buffer.nbytes]
                if len(found) < buffer.nbytes:
                    raise StorageError(f"{self.url}/{name} ends at byte {len(content)}, within what was to be read.")
                buffer.cast("B")[:] = found
                found.release()

    def stat(self, name: str) -> Entry | None:
        """What is known of an object; None if there is none."""
        path = self._path(name)
        with self._lock:
            file = self._fs.store.get(path)
            return None if file is None else _entry(name, file)

    def list(self, folder: str = "", *, recursive: bool = False) -> list[Entry]:
        """The objects in a folder, sorted by name; see Directory."""
        prefix = f"{self._path(folder) if folder else self._root}/"
        with self._lock:
            found = [(path, file) for path, file in self._fs.store.items() if path.startswith(prefix)]
            entries = [_entry(path.removeprefix(f"{self._root}/"), file) for path, file in found]
        depth = folder.count("/") + 1 if folder else 0
        return sorted(entry for entry in entries if recursive or entry.name.count("/") == depth)

    def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
        """Creates or replaces an object, and returns its tag; see Directory."""
        path = self._path(name)
        with self._lock, translated(f"write {self.url}/{name}"):
            before = self._fs.store.get(path)
            check_condition(only, None if before is None else _tag(before), f"{self.url}/{name}")
            self._fs.pipe_file(path, bytes(data))
            return _tag(self._fs.store[path])

    def upload(self, name: str, size_bytes: int, *, only: Condition | None = None) -> Upload:
        """Begins a large object; see Directory."""
        self._path(name)
        return MemoryUpload(name, size_bytes, publish=lambda data: self.write_bytes(name, data, only=only))

    def delete(self, name: str) -> None:
        """Deletes an object; one that is missing is fine."""
        path = self._path(name)
        with self._lock:
            self._fs.store.pop(path, None)

    def locked(self) -> AbstractContextManager[None]:
        """Keeps nobody out."""
        return nullcontext()

    def abort_uploads(self, *, older_than: timedelta) -> int:  # noqa: ARG002 - an upload ends with its object
        """There are none: what is not committed is in nobody's memory but its owner's."""
        return 0

    def _path(self, name: str) -> str:
        return f"{self._root}/{checked_name(name, self.url)}"

    def _file(self, name: str) -> Any:
        if (file := self._fs.store.get(self._path(name))) is None:
            raise ObjectNotFoundError(f"There is no object {self.url}/{name}.")
        return file


def _tag(file: Any) -> str:
    # No two files of the same time are in the same place.
    return f"{file.created:%Y%m%d%H%M%S%f}-{file.modified:%H%M%S%f}-{id(file):x}-{file.size:x}"


def _entry(name: str, file: Any) -> Entry:
    return Entry(name, file.size, file.modified.astimezone(UTC), _tag(file))
