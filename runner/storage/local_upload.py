"""A large file in the making on a local disk."""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from runner.storage.directory import Upload
from runner.storage.failures import translated

__all__ = ["LocalUpload"]

_PART_BYTES = 16 << 20
# One call for 16 MiB takes more than twice as long as 16 for 1 MiB, whose pages stay in the processor's cache.
_WRITE_BYTES = 1 << 20
_MAX_VIEWS = 512


class LocalUpload(Upload):
    """A staged file that `publish` renames.

    Args:
        name: Of the object.
        size_bytes: Of all of it.
        path: Of the staged file, which this object deletes unless it is committed.
        descriptor: Of the same file, which this object closes.
        durable: Whether it must survive a power loss.
        publish: Renames the file if the condition holds, and returns the tag.
    """

    def __init__(
        self, name: str, size_bytes: int, *, path: Path, descriptor: int, durable: bool, publish: Callable[[], str]
    ) -> None:
        super().__init__(name, size_bytes, part_size_bytes=_PART_BYTES)
        self._path = path
        self._descriptor: int | None = descriptor
        self._durable = durable
        self._publish = publish
        self._lock = threading.Lock()
        self._put: set[int] = set()

    def reserve(self) -> None:
        """Has the disk give all blocks now, so that it is full at the start or not at all, and writes are quicker."""
        try:
            if self.size_bytes:
                os.posix_fallocate(self._open(), 0, self.size_bytes)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:  # not every file system can
                raise

    def put(self, index: int, pieces: Sequence[memoryview]) -> None:
        """Writes a part; see Upload."""
        views = [piece.cast("B") for piece in pieces if piece.nbytes]
        self.check_part(index, sum(view.nbytes for view in views))
        descriptor, offset = self._open(), index * self.part_size_bytes
        with translated(f"write {self._path}"):
            for batch in _batches(views):
                offset = _write(descriptor, batch, offset)
        with self._lock:
            self._put.add(index)

    def commit(self) -> str:
        """Makes the file appear; see Upload."""
        descriptor = self._open()
        try:
            self.check_complete(self._put)
            with translated(f"write {self._path}"):
                if self._durable:
                    os.fsync(descriptor)
            tag = self._publish()
            self._close()
            return tag
        finally:
            self.abort()

    def abort(self) -> None:
        """Deletes the staged file; see Upload."""
        if self._close():
            self._path.unlink(missing_ok=True)

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"The upload of {self.name} has ended.")
        return self._descriptor

    def _close(self) -> bool:
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return False
        os.close(descriptor)
        return True


def _batches(views: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    """The same bytes in lists of views, each for one call of the system."""
    batch: list[memoryview] = []
    size = 0
    for view in views:
        rest = view
        while rest:
            if size == _WRITE_BYTES or len(batch) == _MAX_VIEWS:
                yield batch
                batch, size = [], 0
            batch.append(rest[: _WRITE_BYTES - size])
            size += len(batch[-1])
            rest = rest[len(batch[-1]) :]
    if batch:
        yield batch


def _write(descriptor: int, views: list[memoryview], offset: int) -> int:
    """Writes all of the views from an offset on, and returns the offset behind them."""
    while views:
        count = os.pwritev(descriptor, views, offset)
        offset += count
        while views and count >= len(views[0]):
            count -= len(views[0])
            views = views[1:]
        if count:
            views = [views[0][count:], *views[1:]]
    return offset
