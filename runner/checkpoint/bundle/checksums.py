"""crc32c of tensors whose pieces are checked one by one, in any order and by several threads."""

import threading
from collections.abc import Mapping
from functools import lru_cache

import crc32c

__all__ = ["TensorChecksums", "combine", "mask", "unmask"]

_POLYNOMIAL = 0x82F63B78  # Castagnoli, the lowest power in the highest bit
_ONE = 1 << 31  # the polynomial 1
_MASK_DELTA = 0xA282EAD8


def mask(crc: int) -> int:
    """A crc32c as the format stores it, so that a checksum of bytes with checksums in them stays a good one."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(stored: int) -> int:
    """The inverse of `mask`."""
    rotated = (stored - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def combine(first: int, second: int, *, size_bytes: int) -> int:
    """The crc32c of two runs of bytes together, from that of each.

    Args:
        first: Of the first run.
        second: Of the second one.
        size_bytes: Length of the second one.
    """
    # Each byte that follows multiplies a checksum by x^8, modulo the polynomial.
    return _multiply(first, _power(size_bytes)) ^ second


def _multiply(first: int, second: int) -> int:
    product = 0
    while first:
        if first & _ONE:
            product ^= second
        first = (first << 1) & 0xFFFFFFFF
        second = second >> 1 ^ (_POLYNOMIAL if second & 1 else 0)
    return product


@lru_cache(maxsize=4096)
def _power(size_bytes: int) -> int:
    """x^(8 * size_bytes) modulo the polynomial, by repeated squaring."""
    power, square = _ONE, _ONE >> 8
    while size_bytes:
        if size_bytes & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        size_bytes >>= 1
    return power


class TensorChecksums:
    """The checksums of tensors, put together from those of their pieces. Thread-safe.

    Args:
        sizes_bytes: Size of each tensor, by its name.
    """

    def __init__(self, sizes_bytes: Mapping[str, int]) -> None:
        self._sizes_bytes = dict(sizes_bytes)
        self._pieces: dict[str, dict[int, tuple[int, int]]] = {}
        self._left_bytes = dict(sizes_bytes)
        self._known: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, name: str, start: int, data: memoryview) -> None:
        """Checks one piece of a tensor; the same one may be given again, as by a retry.

        Args:
            name: The tensor.
            start: Where in the tensor the piece begins, in bytes.
            data: The bytes of the piece, contiguous.
        """
        crc = crc32c.crc32c(data)
        with self._lock:
            pieces = self._pieces.setdefault(name, {})
            if start not in pieces:
                self._left_bytes[name] -= data.nbytes
            pieces[start] = (data.nbytes, crc)

    def set(self, name: str, crc: int) -> None:
        """Takes the checksum of a whole tensor as it is: that of strings is not that of their bytes."""
        self._known[name] = crc

    def is_whole(self, name: str) -> bool:
        """Whether all pieces of a tensor have been added."""
        with self._lock:
            return name in self._known or not self._left_bytes[name]

    def of(self, name: str) -> int:
        """The crc32c of a tensor, not masked; 0 for an empty one.

        Raises:
            ValueError: Pieces of it are missing, or overlap.
        """
        if name in self._known:
            return self._known[name]
        with self._lock:
            pieces = sorted(self._pieces.get(name, {}).items())
        crc = end = 0
        for start, (size_bytes, piece_crc) in pieces:
            if start != end:
                break
            crc = combine(crc, piece_crc, size_bytes=size_bytes) if end else piece_crc
            end += size_bytes
        if end != self._sizes_bytes[name]:
            raise ValueError(f"Of tensor {name} only {end} of {self._sizes_bytes[name]} bytes have a checksum.")
        return crc
