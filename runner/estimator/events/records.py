"""Records of an event file: the framing of TensorFlow's TFRecord format."""

import struct

from crc32c import crc32c

from runner.checkpoint.bundle.checksums import mask

__all__ = ["frame", "split_records"]

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CRC.size


def frame(record: bytes) -> bytes:
    """A record as it stands in a file: its length, the checksum of that, itself, and its checksum."""
    length = _LENGTH.pack(len(record))
    return b"".join((length, _masked_crc(length), record, _masked_crc(record)))


def split_records(data: bytes) -> tuple[list[bytes], int]:
    """The records of a file that may be in the making, or damaged.

    Args:
        data: All of it, or as much as there is yet.

    Returns:
        The records before the first that is not whole, and the number of bytes that they take in the file.
    """
    records: list[bytes] = []
    start = 0
    while (record := _record_at(data, start)) is not None:
        records.append(record)
        start += _HEADER_BYTES + len(record) + _CRC.size
    return records, start


def _record_at(data: bytes, start: int) -> bytes | None:
    header = data[start : start + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES or header[_LENGTH.size :] != _masked_crc(header[: _LENGTH.size]):
        return None
    begin = start + _HEADER_BYTES
    end = begin + _LENGTH.unpack_from(header)[0]
    record = data[begin:end]
    # A record that is cut off has no checksum behind it.
    return record if data[end : end + _CRC.size] == _masked_crc(record) else None


def _masked_crc(data: bytes) -> bytes:
    return _CRC.pack(mask(crc32c(data)))
