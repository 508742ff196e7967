"""Which parts of the data files are read, each in one request."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runner.checkpoint.bundle.entries import TensorEntry

__all__ = ["ByteRange", "byte_ranges"]

_MAX_GAP_BYTES = 1 << 16


@dataclass(frozen=True)
class ByteRange:
    """A part of one data file: a piece of one large tensor, or several small tensors.

    Attributes:
        shard: The data file.
        offset: Where it begins there.
        size_bytes: Its length.
        entries: The tensors in it, by offset.
        start: Where in its tensor a piece begins; None for whole tensors.
    """

    shard: int
    offset: int
    size_bytes: int
    entries: tuple[TensorEntry, ...]
    start: int | None = None


def byte_ranges(entries: Iterable[TensorEntry], *, max_bytes: int) -> Iterator[ByteRange]:
    """All bytes of the entries that have any, by data file and offset.

    Args:
        entries: In any order.
        max_bytes: Length of a range. Tensors that are smaller share one with their neighbours.
    """
    group: list[TensorEntry] = []
    for entry in sorted(entries, key=lambda entry: (entry.shard, entry.offset)):
        if not entry.size_bytes:
            continue
        if group and not _belongs(entry, group, max_bytes):
            yield _range(group)
            group = []
        if entry.size_bytes < max_bytes:
            group.append(entry)
            continue
        for start in range(0, entry.size_bytes, max_bytes):
            size_bytes = min(max_bytes, entry.size_bytes - start)
            yield ByteRange(entry.shard, entry.offset + start, size_bytes, (entry,), start)
    if group:
        yield _range(group)


def _belongs(entry: TensorEntry, group: list[TensorEntry], max_bytes: int) -> bool:
    first, last = group[0], group[-1]
    is_near = entry.shard == last.shard and entry.offset - last.end <= _MAX_GAP_BYTES
    return is_near and entry.end - first.offset <= max_bytes


def _range(group: list[TensorEntry]) -> ByteRange:
    first, last = group[0], group[-1]
    return ByteRange(first.shard, first.offset, last.end - first.offset, tuple(group))
