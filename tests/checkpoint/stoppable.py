"""Writers that are stopped before every request to the store, and resumed one request at a time."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Literal, TypeVar

from runner.errors import ConditionFailedError, StoreUnavailableError
from runner.storage.directory import Condition, Directory, Entry, IfUnchanged, Stored, Upload

__all__ = ["Fate", "StoppableDirectory", "StoppableThread", "VisibleLock", "finish_all"]

T = TypeVar("T")
Fate = Literal["done", "refused", "lost", "repeated"]
"""What becomes of a request: it is done; it never arrives; it is done, and the reply is lost; it is done twice."""

_TIMEOUT_SECS = 60


class _Killed(BaseException):
    pass


class StoppableThread:
    """A thread that goes on only when it is told to, by one request to a store."""

    def __init__(self, target: Callable[["StoppableThread"], None]) -> None:
        self.error: BaseException | None = None
        self.is_done = False
        self._target = target
        self._fate: Fate | None = "done"
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.stop()
            self._target(self)
        except _Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.error = error
        self.is_done = True
        self._stopped.release()

    def stop(self) -> Fate:
        """Called by the thread itself, before a request: waits for its turn, and returns what becomes of it."""
        self._stopped.release()
        assert self._go.acquire(timeout=_TIMEOUT_SECS)
        if self._fate is None:
            raise _Killed
        return self._fate

    def resume(self, fate: Fate = "done") -> None:
        """Lets the thread go on to its next request, or to its end."""
        self._resume(fate)

    def kill(self) -> None:
        """Ends the thread where it is."""
        while not self.is_done:
            self._resume(None)
        self._thread.join(_TIMEOUT_SECS)

    def wait_for_stop(self) -> None:
        """Called once, by who started it: waits until the thread has come to its first request."""
        assert self._stopped.acquire(timeout=_TIMEOUT_SECS)

    def _resume(self, fate: Fate | None) -> None:
        if self.is_done:
            return
        self._fate = fate
        self._go.release()
        assert self._stopped.acquire(timeout=_TIMEOUT_SECS), "the thread neither ended nor came to a request"


def finish_all(threads: Sequence[StoppableThread], *, max_requests: int = 10_000) -> None:
    """Lets threads go on to their ends, by turns, since one may wait for another."""
    for _ in range(max_requests):
        if all(thread.is_done for thread in threads):
            return
        for thread in threads:
            thread.resume()
    raise AssertionError(f"a thread did not end within {max_requests} requests")


class VisibleLock:
    """Stands before the lock of a directory: who waits for it is stopped, as before a request."""

    def __init__(self) -> None:
        self.holder: StoppableThread | None = None
        self.depth = 0


class StoppableDirectory(Directory):
    """A real directory, as one stoppable thread sees it.

    One that does not lock gets the tags of an object store: hashes, which are equal for equal content.

    Args:
        inner: The directory.
        thread: Is stopped before each request.
        lock: What all views of one directory have in common.
        changing: Told the name of every object before it may be written or deleted.
        changed: Told it afterwards.
    """

    def __init__(
        self,
        inner: Directory,
        thread: StoppableThread,
        *,
        lock: VisibleLock,
        changing: Callable[[str], None],
        changed: Callable[[str], None],
    ) -> None:
        self.url, self.locks, self.conditional = inner.url, inner.locks, inner.conditional
        self.inner = inner
        self._thread = thread
        self._lock = lock
        self._changing = changing
        self._changed = changed

    def _request(self, action: Callable[[], T]) -> T:
        fate = self._thread.stop()
        if fate == "refused":
            raise StoreUnavailableError("The store did not answer.")
        result = action()
        if fate == "lost":
            raise StoreUnavailableError("The reply of the store was lost.")
        if fate == "repeated":  # as by a client that got no reply
            self._thread.stop()
            return action()
        return result

    def _change(self, name: str, action: Callable[[], T]) -> T:
        def change() -> T:
            with self.locked():
                self._changing(name)
                result = action()
                self._changed(name)
                return result

        return self._request(change)

    def check_writable(self) -> None:
        self.inner.check_writable()

    def read(self, name: str) -> Stored:
        return self._request(lambda: self._read(name))

    def _read(self, name: str) -> Stored:
        stored = self.inner.read(name)
        return stored if self.locks else Stored(stored.data, _hash(stored.data))

    def read_if_changed(self, name: str, tag: str) -> Stored | None:
        def read() -> Stored | None:
            stored = self._read(name)
            return None if stored.tag == tag else stored

        return self._request(read)

    def read_into(self, name: str, buffer: memoryview, *, offset: int = 0, tag: str | None = None) -> None:
        raise NotImplementedError("a writer of checkpoints reads none")

    def stat(self, name: str) -> Entry | None:
        return self._request(lambda: self._hashed(self.inner.stat(name)))

    def _hashed(self, entry: Entry | None) -> Entry | None:
        return entry if self.locks or entry is None else replace(entry, tag=self._read(entry.name).tag)

    def list(self, folder: str = "", *, recursive: bool = False) -> list[Entry]:
        return self._request(lambda: self.inner.list(folder, recursive=recursive))

    def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
        return self._change(name, lambda: self._write(name, data, only))

    def _write(self, name: str, data: bytes, only: Condition | None) -> str:
        if self.locks or not isinstance(only, IfUnchanged):
            tag = self.inner.write_bytes(name, data, only=only)
        else:
            entry = self.inner.stat(name)
            if entry is None or self._read(name).tag != only.tag:
                raise ConditionFailedError(f"{name} has another tag.")
            tag = self.inner.write_bytes(name, data, only=IfUnchanged(entry.tag))
        return tag if self.locks else _hash(data)

    def upload(self, name: str, size_bytes: int, *, only: Condition | None = None) -> Upload:
        return _StoppableUpload(self, name, size_bytes, only=only)

    def delete(self, name: str) -> None:
        self._change(name, lambda: self.inner.delete(name))

    def locked(self) -> AbstractContextManager[None]:
        return self._holding() if self.locks else nullcontext()

    @contextmanager
    def _holding(self) -> Iterator[None]:
        while self._lock.holder not in {None, self._thread}:
            self._thread.stop()
        self._lock.holder = self._thread
        self._lock.depth += 1
        try:
            with self.inner.locked():
                yield
        finally:
            self._lock.depth -= 1
            if self._lock.depth == 0:
                self._lock.holder = None

    def abort_uploads(self, *, older_than: timedelta) -> int:
        return self._request(lambda: self.inner.abort_uploads(older_than=older_than))


class _StoppableUpload(Upload):
    """Is stopped before every part and before the commit."""

    def __init__(self, directory: StoppableDirectory, name: str, size_bytes: int, *, only: Condition | None) -> None:
        super().__init__(name, size_bytes, part_size_bytes=24)
        self._directory = directory
        self._only = only
        self._parts: dict[int, bytes] = {}

    def put(self, index: int, pieces: Sequence[memoryview]) -> None:
        self._directory._request(lambda: self._parts.update({index: b"".join(pieces)}))

    def commit(self) -> str:
        self.check_complete(self._parts)
        data = b"".join(self._parts[index] for index in range(self.part_count))
        return self._directory.write_bytes(self.name, data, only=self._only)

    def abort(self) -> None:
        self._parts.clear()


def _hash(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
