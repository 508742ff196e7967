"""Lines of a pipe, each bounded in length."""

import os
from collections.abc import Iterator

__all__ = ["read_lines"]

_CHUNK_BYTES = 64 * 1024


def read_lines(fd: int, *, max_bytes: int) -> Iterator[bytes]:
    """Reads a file descriptor to its end.

    Args:
        fd: Readable; stays open.
        max_bytes: A longer line comes in pieces of this size, so that memory stays bounded.

    Yields:
        Lines without their ends.
    """
    rest = b""
    while chunk := os.read(fd, _CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield from _pieces(line, max_bytes)
        while len(rest) > max_bytes:
            yield rest[:max_bytes]
            rest = rest[max_bytes:]
    if rest:
        yield rest


def _pieces(line: bytes, max_bytes: int) -> Iterator[bytes]:
    yield line[:max_bytes]
    for start in range(max_bytes, len(line), max_bytes):
        yield line[start : start + max_bytes]
