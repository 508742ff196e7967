"""A large object in the making in memory."""

import threading
from collections.abc import Callable, Sequence

from runner.storage.directory import Upload

__all__ = ["MemoryUpload"]

_PART_BYTES = 8 << 20


class MemoryUpload(Upload):
    """Parts in one buffer.

    Args:
        name: Of the object.
        size_bytes: Of all of it.
        publish: Writes the object, and returns its tag.
    """

    def __init__(self, name: str, size_bytes: int, *, publish: Callable[[bytes], str]) -> None:
        super().__init__(name, size_bytes, part_size_bytes=_PART_BYTES)
        self._publish = publish
        self._content: bytearray | None = bytearray(size_bytes)
        self._lock = threading.Lock()
        self._put: set[int] = set()

    def put(self, index: int, pieces: Sequence[memoryview]) -> None:
        """Copies a part; see Upload."""
        part = b"".join(pieces)
        self.check_part(index, len(part))
        offset = index * self.part_size_bytes
        with self._lock:
            self._buffer()[offset : offset + len(part)] = part
            self._put.add(index)

    def commit(self) -> str:
        """Makes the object appear; see Upload."""
        with self._lock:
            try:
                content = bytes(self._buffer())
                self.check_complete(self._put)
                return self._publish(content)
            finally:
                self._content = None

    def abort(self) -> None:
        """Forgets what has been put; see Upload."""
        with self._lock:
            self._content = None

    def _buffer(self) -> bytearray:
        if self._content is None:
            raise ValueError(f"The upload of {self.name} has ended.")
        return self._content
