"""Integers of 7 bits a byte, lowest first, as tables and strings of a bundle have them."""

__all__ = ["decode_varint", "encode_varint"]

_MAX_SHIFT = 63


def encode_varint(value: int) -> bytes:
    """The bytes of an integer that is not negative."""
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - the seven bits
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """The integer at a position, and the position after it.

    Raises:
        ValueError: The data ends in it, or it is more than 64 bits.
    """
    value = shift = 0
    while position < len(data) and shift <= _MAX_SHIFT:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the mark of a byte that is not the last
            return value, position
    raise ValueError(f"no integer ends at byte {position}")
