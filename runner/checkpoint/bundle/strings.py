"""Tensors of strings in a data file: their lengths, a checksum of these, their bytes."""

import math
import struct
from collections.abc import Sequence

import crc32c
import numpy as np
import numpy.typing as npt

from runner.checkpoint.bundle.checksums import mask
from runner.checkpoint.bundle.varint import decode_varint, encode_varint

__all__ = ["decode_strings", "encode_strings"]

_CHECKSUM = struct.Struct("<I")
_MAX_UINT32 = 0xFFFFFFFF


def encode_strings(values: Sequence[bytes]) -> tuple[bytes, int]:
    """The bytes in the data file of a tensor of strings, row by row, and the crc32c of its entry.

    That one covers the lengths as integers of fixed size, not as they are written.
    """
    lengths = b"".join(encode_varint(len(value)) for value in values)
    lengths_crc = _checksum_of_lengths([len(value) for value in values])
    rest = _CHECKSUM.pack(mask(lengths_crc)) + b"".join(values)
    return lengths + rest, crc32c.crc32c(rest, lengths_crc)


def decode_strings(data: bytes, shape: Sequence[int]) -> tuple[npt.NDArray[np.object_], int]:
    """A tensor of strings, and the crc32c that its entry must have.

    Args:
        data: Its bytes in the data file.
        shape: Its shape.

    Raises:
        ValueError: The bytes are not those of such a tensor.
    """
    count = math.prod(shape)
    if count + _CHECKSUM.size > len(data):
        raise ValueError(f"{len(data)} bytes have no room for {count} strings")
    lengths, position = [], 0
    for _ in range(count):
        length, position = decode_varint(data, position)
        lengths.append(length)
    start = position + _CHECKSUM.size
    if start + sum(lengths) != len(data):
        raise ValueError(f"{count} strings do not fill {len(data)} bytes")
    lengths_crc = _checksum_of_lengths(lengths)
    if data[position:start] != _CHECKSUM.pack(mask(lengths_crc)):
        raise ValueError("the checksum of the lengths of its strings does not match")
    values = np.empty(count, dtype=object)
    crc = crc32c.crc32c(memoryview(data)[position:], lengths_crc)
    for number, length in enumerate(lengths):
        values[number] = data[start : start + length]
        start += length
    return values.reshape(shape), crc


def _checksum_of_lengths(lengths: Sequence[int]) -> int:
    # As in TensorFlow, which had 32 bits for a length at first.
    return crc32c.crc32c(b"".join(struct.pack("<I" if each <= _MAX_UINT32 else "<Q", each) for each in lengths))
