"""The sorted table of keys and values that an index is: that of LevelDB, with TensorFlow's block size.

A file is a sequence of blocks, each with its checksum: those of the entries, an empty one, the index of the blocks;
then the footer with the places of the last two. In a block a key gives only what differs from the key before it, except
at the restarts.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import crc32c

from runner.checkpoint.bundle.checksums import mask, unmask
from runner.checkpoint.bundle.varint import decode_varint, encode_varint

__all__ = ["read_table", "table_bytes"]

_BLOCK_SIZE_BYTES = 262144
_RESTART_INTERVAL = 16
_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER_SIZE_BYTES = 48
_TRAILER = struct.Struct("<BI")  # of a block: the kind of its compression, the masked checksum of both
_COUNT = struct.Struct("<I")
_MAX_BYTE = 0xFF
_MAX_EXPANSION = 4 * _RESTART_INTERVAL  # as often a key can be repeated, and more


def table_bytes(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole table.

    Args:
        items: Keys, ascending and all different, and their values.

    Raises:
        ValueError: A key is not greater than the one before it.
    """
    table = _Table()
    for key, value in items:
        table.add(key, value)
    return table.finish()


@dataclass
class _Block:
    restart_interval: int
    data: bytearray = field(default_factory=bytearray)
    restarts: list[int] = field(default_factory=lambda: [0])
    since_restart: int = 0
    last_key: bytes = b""

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.since_restart < self.restart_interval:
            shared = _shared(self.last_key, key)
        else:
            self.restarts.append(len(self.data))
            self.since_restart = 0
        for number in (shared, len(key) - shared, len(value)):
            self.data += encode_varint(number)
        self.data += key[shared:] + value
        self.last_key = key
        self.since_restart += 1

    @property
    def size_bytes(self) -> int:
        return len(self.data) + _COUNT.size * (len(self.restarts) + 1)

    def finish(self) -> bytes:
        return bytes(self.data) + struct.pack(f"<{len(self.restarts) + 1}I", *self.restarts, len(self.restarts))


class _Table:
    def __init__(self) -> None:
        self._file = bytearray()
        self._block = _Block(_RESTART_INTERVAL)
        self._index = _Block(1)
        self._last_key: bytes | None = None
        self._pending: bytes | None = None  # place of the last block, until the next key shows how short its key can be

    def add(self, key: bytes, value: bytes) -> None:
        if self._last_key is not None and key <= self._last_key:
            raise ValueError(f"Key {key!r} follows {self._last_key!r}: keys of a table ascend.")
        if self._last_key is not None and len(key) + len(value) >= 2 * _BLOCK_SIZE_BYTES:
            self._flush()
        if self._pending is not None and self._last_key is not None:
            self._index.add(_separator(self._last_key, key), self._pending)
            self._pending = None
        self._block.add(key, value)
        self._last_key = key
        if self._block.size_bytes >= _BLOCK_SIZE_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._block.data:
            self._pending = self._write(self._block)
            self._block = _Block(_RESTART_INTERVAL)

    def _write(self, block: _Block) -> bytes:
        data = block.finish()
        place = encode_varint(len(self._file)) + encode_varint(len(data))
        self._file += data + _TRAILER.pack(0, mask(crc32c.crc32c(data + b"\0")))
        return place

    def finish(self) -> bytes:
        self._flush()
        places = self._write(_Block(_RESTART_INTERVAL))
        if self._pending is not None and self._last_key is not None:
            self._index.add(_successor(self._last_key), self._pending)
        places += self._write(self._index)
        return bytes(self._file) + places.ljust(_FOOTER_SIZE_BYTES - len(_MAGIC), b"\0") + _MAGIC


def _shared(first: bytes, second: bytes) -> int:
    """Number of bytes that two keys begin with alike."""
    end = min(len(first), len(second))
    if first[:end] == second[:end]:
        return end
    return next(position for position in range(end) if first[position] != second[position])


def _separator(key: bytes, following: bytes) -> bytes:
    """A short key that is at least `key`, and less than the following one."""
    position = _shared(key, following)
    if position < min(len(key), len(following)) and key[position] + 1 < following[position]:
        return key[:position] + bytes([key[position] + 1])
    return key


def _successor(key: bytes) -> bytes:
    """A short key that is at least `key`."""
    for position, byte in enumerate(key):
        if byte != _MAX_BYTE:
            return key[:position] + bytes([byte + 1])
    return key


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table, in their order; every block is checked before anything of it is used.

    Raises:
        ValueError: It is not a table, it is damaged, or it is compressed.
    """
    if len(data) < _FOOTER_SIZE_BYTES or not data.endswith(_MAGIC):
        raise ValueError(f"its {len(data)} bytes do not end as a table does")
    footer = data[-_FOOTER_SIZE_BYTES : -len(_MAGIC)]
    empty_place, end = _read_place(footer, 0)
    place, end = _read_place(footer, end)
    if any(footer[end:]) or list(_read_block(data, empty_place)):
        raise ValueError("its footer is not as it was written")
    last_key: bytes | None = None
    left_bytes = _MAX_EXPANSION * len(data)
    for _, where in _read_block(data, place):
        for key, value in _read_block(data, _read_place(where, 0)[0]):
            if last_key is not None and key <= last_key:
                raise ValueError(f"its key {key!r} follows {last_key!r}")
            last_key = key
            left_bytes -= len(key)
            if left_bytes < 0:
                raise ValueError(f"its keys are more than {_MAX_EXPANSION} times as long as all of it")
            yield key, value


def _read_place(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = decode_varint(data, position)
    size_bytes, position = decode_varint(data, position)
    return (offset, size_bytes), position


def _read_block(data: bytes, place: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    start, end = place[0], sum(place)
    if end + _TRAILER.size + _FOOTER_SIZE_BYTES > len(data) or end - start < 2 * _COUNT.size:
        raise ValueError(f"a block at bytes {start} to {end} of {len(data)} cannot be")
    kind, stored = _TRAILER.unpack_from(data, end)
    if unmask(stored) != crc32c.crc32c(data[start : end + 1]):
        raise ValueError(f"the checksum of the block at bytes {start} to {end} does not match")
    if kind != 0:
        raise ValueError(
            f"the block at bytes {start} to {end} is compressed (kind {kind}), which no version of TensorFlow does"
        )
    restarts = _COUNT.unpack_from(data, end - _COUNT.size)[0]
    stop = end - _COUNT.size * (restarts + 1)
    if stop < start:
        raise ValueError(f"the block at bytes {start} to {end} has no room for its {restarts} restarts")
    return _entries(data[start:stop])


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    position, key = 0, b""
    while position < len(block):
        shared, position = decode_varint(block, position)
        added, position = decode_varint(block, position)
        size_bytes, position = decode_varint(block, position)
        end = position + added
        if shared > len(key) or end + size_bytes > len(block):
            raise ValueError(f"an entry at byte {position} of a block is longer than the block")
        key = key[:shared] + block[position:end]
        position = end + size_bytes
        yield key, block[end:position]
