"""Tensors of variants in a data file: each element's length, bytes and checksum. They are checked, and not read."""

import math
import struct
from collections.abc import Sequence

import crc32c

from runner.checkpoint.bundle.checksums import mask
from runner.checkpoint.bundle.varint import decode_varint

__all__ = ["checksum_of_variants"]

_CHECKSUM = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")


def checksum_of_variants(data: bytes, shape: Sequence[int]) -> int:
    """The crc32c that the entry of a tensor of variants must have.

    Args:
        data: Its bytes in the data file.
        shape: Its shape.

    Raises:
        ValueError: The bytes are not those of such a tensor.
    """
    crc = position = 0
    for number in range(math.prod(shape)):
        length, start = decode_varint(data, position)
        stop = start + length
        crc = crc32c.crc32c(data[start:stop], crc32c.crc32c(_LENGTH.pack(length), crc))
        position = stop + _CHECKSUM.size
        stored = data[stop:position]
        if stored != _CHECKSUM.pack(mask(crc)):
            raise ValueError(f"the checksum of its element {number} does not match")
        crc = crc32c.crc32c(stored, crc)
    if position != len(data):
        raise ValueError(f"its elements have {position} bytes of {len(data)}")
    return crc
