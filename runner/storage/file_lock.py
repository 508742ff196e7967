"""A lock between processes and threads, on a file."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["FileLock"]


class FileLock:
    """An flock that is exclusive between processes, between objects of this class, and between threads.

    Reentrant in a thread. The system frees it when the process ends, however it ends.

    Args:
        path: Of a file that is created, and its folder too, when the lock is taken; it stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.RLock()
        self._depth = 0

    @contextmanager
    def held(self, *, create: bool = True) -> Iterator[None]:
        """Waits for the lock, and holds it in the block.

        Args:
            create: Whether to create a missing file. If not, there is nobody to keep out, and only threads wait.
        """
        with self._thread:
            descriptor = self._open(create=create) if self._depth == 0 else None
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if descriptor is not None:
                    os.close(descriptor)

    def _open(self, *, create: bool) -> int | None:
        if create:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        creating = os.O_CREAT if create else 0
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | creating, 0o666)
        except FileNotFoundError:
            return None
        except PermissionError:
            # Another user's: to lock it on a local disk it is enough to read it. NFS wants more, and says so.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
