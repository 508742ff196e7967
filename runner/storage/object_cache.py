"""Objects of remote stores as files on this host, which its processes share."""

import fcntl
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.errors import ConditionFailedError, ObjectNotFoundError, StoreFullError
from runner.storage.directory import Directory, Entry
from runner.storage.failures import translated
from runner.storage.file_lock import FileLock
from runner.storage.local_directory import LocalDirectory

__all__ = ["ObjectCache"]

_THREADS = 4
_ATTEMPTS = 5
_MAX_BASENAME_BYTES = 200

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class _Kept:
    """One file in the cache, or what is left of one."""

    used_at: float
    size_bytes: int
    key: str


class ObjectCache:
    """Files by URL and tag, so that an object that changes is another file. Thread-safe, and between processes too.

    A file that a living process was given is not deleted: the process holds a shared lock on it until its end. While
    one downloads an object, under a second lock, the others that want it wait. The files used last are kept.

    Args:
        path: Directory of the cache; created if missing.
        max_bytes: Of all files in it together.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = LocalDirectory(str(path))
        # Room is made for one object after the other, or two would count on the same room.
        self._room = FileLock(path / ".lock")
        self._held: dict[str, int] = {}
        self._mutex = threading.Lock()

    def local(self, directory: Directory, name: str) -> Path:
        """The file with an object's content, downloaded if it is not there. It stays while this process lives.

        Raises:
            ObjectNotFoundError: There is no such object.
            StoreFullError: It does not fit beside what living processes use, or the disk is full.
            StorageError: It cannot be read.
        """
        for _ in range(_ATTEMPTS):
            if (entry := directory.stat(name)) is None:
                raise ObjectNotFoundError(f"There is no object {directory.url}/{name}.")
            # Replaced in mid-download: what counts is what is there now.
            with suppress(ConditionFailedError):
                return self._local(directory, entry)
        raise ConditionFailedError(f"{directory.url}/{name} was replaced {_ATTEMPTS} times while it was downloaded.")

    def _local(self, directory: Directory, entry: Entry) -> Path:
        key = hashlib.sha256(f"{directory.url}/{entry.name}\0{entry.tag}".encode()).hexdigest()[:40]
        # TensorFlow and its users look at the ends of names, such as .gz.
        basename = entry.name.rpartition("/")[2].encode()[-_MAX_BASENAME_BYTES:].decode(errors="ignore")
        path = self._path / key / basename
        with self._mutex:
            if key in self._held:
                return path
        # Shared from before the file exists on: whoever deletes files must not come between.
        descriptor = self._lock(key, fcntl.LOCK_SH)
        try:
            with translated(f"use the cache {self._path}"), FileLock(self._path / f"{key}.download").held():
                if not path.exists():
                    self._download(directory, entry, f"{key}/{basename}")
            os.utime(descriptor)
            with self._mutex:
                kept = self._held.setdefault(key, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if kept != descriptor:  # another thread was first
            os.close(descriptor)
        return path

    def _lock(self, key: str, operation: int) -> int:
        """The descriptor of a lock that is held until it is closed.

        Raises:
            BlockingIOError: Another has it, and the operation does not wait.
        """
        path = self._path / f"{key}.lock"
        while True:
            with translated(f"use the cache {self._path}"):
                self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, operation)
                # Its last holder may have deleted it, and then this is a lock that nobody else will find.
                if _is_at(descriptor, path):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _download(self, directory: Directory, entry: Entry, name: str) -> None:
        _logger.info("Downloading %s/%s, %d bytes, to %s.", directory.url, entry.name, entry.size_bytes, self._path)
        with self._room.held():
            shutil.rmtree(self._path / name.partition("/")[0], ignore_errors=True)  # of a download that was killed
            self._make_room(entry, f"{directory.url}/{entry.name}")
            upload = self._files.upload(name, entry.size_bytes)
        with upload:
            step = upload.part_size_bytes

            def copy(index: int) -> None:
                part = memoryview(bytearray(min(step, entry.size_bytes - index * step)))
                directory.read_into(entry.name, part, offset=index * step, tag=entry.tag)
                upload.put(index, [part])

            with ThreadPoolExecutor(_THREADS) as threads:
                list(threads.map(copy, range(upload.part_count)))
            upload.commit()

    def _make_room(self, entry: Entry, url: str) -> None:
        """Deletes the files that were not used for the longest time, of those that no living process uses."""
        kept = sorted(self._kept())
        size_bytes = entry.size_bytes + sum(each.size_bytes for each in kept)
        for each in kept:
            if size_bytes <= self._max_bytes:
                return
            if self._evict(each.key):
                size_bytes -= each.size_bytes
        if size_bytes > self._max_bytes:
            in_use = size_bytes - entry.size_bytes
            raise StoreFullError(
                f"{url} has {entry.size_bytes} bytes, which do not fit into the cache {self._path}: living processes "
                f"use {in_use} of its {self._max_bytes} bytes. Raise RUNNER_DATA_CACHE_BYTES, or use fewer objects at "
                "a time."
            )

    def _kept(self) -> Iterator[_Kept]:
        for lock in self._path.glob("*.lock"):
            key = lock.stem
            with suppress(FileNotFoundError):  # while it is renamed to its final name
                sizes = [file.stat().st_size for file in (self._path / key).glob("*")]
                yield _Kept(lock.stat().st_mtime, sum(sizes), key)

    def _evict(self, key: str) -> bool:
        """Deletes a file, and whether it did: not if any process uses it."""
        try:
            descriptor = self._lock(key, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            shutil.rmtree(self._path / key, ignore_errors=True)
            (self._path / f"{key}.download").unlink(missing_ok=True)
            (self._path / f"{key}.lock").unlink()
        finally:
            os.close(descriptor)
        return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
