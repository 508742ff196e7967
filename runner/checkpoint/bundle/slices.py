"""Slices of a tensor that is stored, or restored, in pieces: those of a partitioned variable.

A stored slice has a key of its own in the index: its tensor's name and its extents, as in TensorFlow's ordered code
(tensorflow/core/lib/strings/ordered_code.h).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

__all__ = ["Slice", "key_of", "parse_shape_and_slice"]

_SPECIAL = re.compile(b"[\0\xff]")


@dataclass(frozen=True, order=True)
class Slice:
    """A box within a tensor.

    Attributes:
        extents: Start and length in each dimension; a length of None is the whole dimension.
    """

    extents: tuple[tuple[int, int | None], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """A slice as SaveV2 and RestoreV2 write it: `0,5:-` has the first five rows.

        Raises:
            ValueError: It is none.
        """
        extents: list[tuple[int, int | None]] = []
        for part in text.split(":"):
            start, comma, length = part.partition(",")
            extents.append((0, None) if part == "-" else (int(start), int(length)))
            if part != "-" and (not comma or int(start) < 0 or int(length) <= 0):
                raise ValueError(f"{text!r} is not a slice: expected a start and a length, or '-', for each dimension.")
        return cls(tuple(extents))

    def bounds(self, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Where it begins and ends in each dimension.

        Raises:
            ValueError: It is not within a tensor of that shape.
        """
        if len(self.extents) != len(shape):
            raise ValueError(f"A slice of {len(self.extents)} dimensions is none of a tensor of shape {list(shape)}.")
        bounds = tuple(
            (start, size if length is None else start + length)
            for (start, length), size in zip(self.extents, shape, strict=True)
        )
        if any(not 0 <= start <= stop <= size for (start, stop), size in zip(bounds, shape, strict=True)):
            raise ValueError(f"The slice {self} exceeds a tensor of shape {list(shape)}.")
        return bounds

    def is_whole(self, shape: Sequence[int]) -> bool:
        """Whether it is all of a tensor of that shape.

        Raises:
            ValueError: It is not within one.
        """
        return self.bounds(shape) == tuple((0, size) for size in shape)

    def shape(self, full: Sequence[int]) -> tuple[int, ...]:
        """Its own shape within a tensor of the full shape."""
        return tuple(stop - start for start, stop in self.bounds(full))

    def key(self, name: str) -> bytes:
        """The key in the index of this slice of that tensor."""
        escaped = _SPECIAL.sub(_escape, key_of(name))
        numbers = b"".join(
            _encode_signed(start) + _encode_signed(-1 if length is None else length) for start, length in self.extents
        )
        return _encode_unsigned(0) + escaped + b"\0\1" + _encode_unsigned(len(self.extents)) + numbers

    def __str__(self) -> str:
        return ":".join("-" if length is None else f"{start},{length}" for start, length in self.extents)


def parse_shape_and_slice(text: str) -> tuple[tuple[int, ...], Slice] | None:
    """What one element of the input shape_and_slices of SaveV2 and RestoreV2 says: `10 4 0,5:-`.

    Returns:
        The shape of the whole tensor, and the slice of it; None where the text is empty: no slice is meant.

    Raises:
        ValueError: It is neither.
    """
    if not text:
        return None
    *shape, extents = text.split()
    return tuple(map(int, shape)), Slice.parse(extents)


def key_of(name: str) -> bytes:
    """The key of an entry: what the order of entries, and of their bytes, is that of."""
    return name.encode("utf-8", "surrogateescape")


def _escape(found: re.Match[bytes]) -> bytes:
    return found[0] + (b"\0" if found[0] == b"\xff" else b"\xff")


def _encode_unsigned(value: int) -> bytes:
    size_bytes = (value.bit_length() + 7) // 8
    return bytes([size_bytes]) + value.to_bytes(size_bytes, "big")


def _encode_signed(value: int) -> bytes:
    """Big-endian two's complement in n bytes, whose first n bits are turned into the sign's opposite.

    So a number that is not negative begins with n ones, a negative one with n zeros, and both sort as they should.
    """
    bits = (value if value >= 0 else ~value).bit_length() + 1
    size_bytes = -(-bits // 7)
    encoded = value.to_bytes(size_bytes, "big", signed=True)
    turned = ((1 << size_bytes) - 1) << (7 * size_bytes)
    return (int.from_bytes(encoded, "big") ^ turned).to_bytes(size_bytes, "big")
