"""Where the bytes of tensors that are read go, and how they become arrays."""

import math
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.checkpoint.bundle.checksums import TensorChecksums
from runner.checkpoint.bundle.dtypes import STRING, VARIANT, item_size_bytes, numpy_dtype
from runner.checkpoint.bundle.entries import TensorEntry
from runner.checkpoint.bundle.strings import decode_strings
from runner.checkpoint.bundle.variants import checksum_of_variants

__all__ = ["Array", "Buffers", "empty_array"]

_ALIGNMENT_BYTES = 64

Array = npt.NDArray[Any]


def empty_array(dtype: str, shape: tuple[int, ...]) -> Array:
    """An uninitialised array at an address with which TensorFlow takes it as it is, instead of copying it.

    Raises:
        ValueError: No array can be of that dtype, or of that shape.
    """
    if dtype == STRING:
        return np.empty(shape, object)
    numpy = numpy_dtype(dtype)
    return _aligned(math.prod(shape) * numpy.itemsize).view(numpy).reshape(shape)


def _aligned(size_bytes: int) -> npt.NDArray[np.uint8]:
    memory = np.empty(size_bytes + _ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT_BYTES
    return memory[start : start + size_bytes]


class Buffers:
    """The bytes of some tensors, and whether they are those that were written. Thread-safe.

    Args:
        entries: The tensors.
        keep: Whether arrays are made of them. Without it only what cannot be checked in pieces takes memory.
    """

    def __init__(self, entries: Iterable[TensorEntry], *, keep: bool) -> None:
        self._keep = keep
        self._checksums = TensorChecksums({entry.name: entry.size_bytes for entry in entries})
        self._memory: dict[str, npt.NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def memory(self, entry: TensorEntry) -> memoryview | None:
        """Where the bytes of a tensor go; None if they are not kept."""
        if not self._keep and _is_plain(entry):
            return None
        with self._lock:
            if entry.name not in self._memory:
                self._memory[entry.name] = _aligned(entry.size_bytes)
            return self._memory[entry.name].data

    def check(self, entry: TensorEntry, data: memoryview, *, start: int) -> None:
        """Takes note of a piece that has been read.

        Args:
            entry: Its tensor.
            data: What was read.
            start: Where in the tensor it begins, in bytes.

        Raises:
            ValueError: It was the last piece, and the tensor is not as it was written.
        """
        if _is_plain(entry):
            self._checksums.add(entry.name, start, data)
            if self._checksums.is_whole(entry.name):
                _compare(entry, self._checksums.of(entry.name))

    def array(self, entry: TensorEntry) -> Array:
        """A tensor that has been read; the buffers let go of it.

        Raises:
            ValueError: It is not as it was written, or no array can be like it.
        """
        memory = self._memory.pop(entry.name, None)
        if memory is None:  # it has no bytes
            memory = _aligned(0)
        if entry.dtype == STRING:
            values, crc = decode_strings(memory.tobytes(), entry.shape)
            _compare(entry, crc)
            return values
        return memory.view(numpy_dtype(entry.dtype)).reshape(entry.shape)

    def verify(self, entry: TensorEntry) -> None:
        """Checks a tensor that could not be checked in pieces; the buffers let go of it.

        Raises:
            ValueError: It is not as it was written, or its dtype is not known.
        """
        if entry.dtype == VARIANT:
            memory = self._memory.pop(entry.name, _aligned(0))
            _compare(entry, checksum_of_variants(memory.tobytes(), entry.shape))
        elif not _is_plain(entry):
            self.array(entry)


def _is_plain(entry: TensorEntry) -> bool:
    """Whether the checksum of a tensor is that of its bytes."""
    return item_size_bytes(entry.dtype) is not None


def _compare(entry: TensorEntry, crc: int) -> None:
    if crc != entry.crc32c:
        raise ValueError(f"its checksum is {crc:08x}, and was {entry.crc32c:08x} when it was written")
