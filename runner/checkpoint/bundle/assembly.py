"""Parts of tensors from the slices in which they are stored, whether these are the same or not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runner.checkpoint.bundle.buffers import Array, empty_array
from runner.checkpoint.bundle.entries import Index, TensorEntry, stored_name
from runner.checkpoint.bundle.slices import Slice

__all__ = ["Assembly"]

Bounds = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Assembly:
    """What a part of a tensor is put together from.

    Attributes:
        entry: The tensor.
        bounds: The part: where it begins and ends in each dimension.
        sources: The stored entries that have a share in it, and their bounds in the tensor.
    """

    entry: TensorEntry
    bounds: Bounds
    sources: tuple[tuple[TensorEntry, Bounds], ...]

    @classmethod
    def of(cls, index: Index, entry: TensorEntry, part: Slice | None) -> "Assembly":
        """Finds what is stored of a part.

        Args:
            index: That has the entry.
            entry: The tensor.
            part: Within the tensor; None means all of it.

        Raises:
            ValueError: The index lacks some of it, or has some of it twice.
        """
        whole = tuple((0, size) for size in entry.shape)
        bounds = whole if part is None else part.bounds(entry.shape)
        if not entry.slices:
            return cls(entry, bounds, ((entry, whole),))
        stored = [(_stored(index, entry, each), each.bounds(entry.shape)) for each in entry.slices]
        _check_disjoint([each for _, each in stored])
        sources = tuple((each, its) for each, its in stored if _volume(_common(its, bounds)))
        found = sum(_volume(_common(its, bounds)) for _, its in sources)
        if found != _volume(bounds):
            raise ValueError(f"of the {_volume(bounds)} elements that are wanted only {found} are stored")
        return cls(entry, bounds, sources)

    def array(self, stored: Mapping[str, Array]) -> Array:
        """The part, from the arrays of its sources by their names."""
        if [its for _, its in self.sources] == [self.bounds]:
            return stored[self.sources[0][0].name]
        array = empty_array(self.entry.dtype, tuple(stop - start for start, stop in self.bounds))
        for source, its in self.sources:
            common = _common(its, self.bounds)
            array[_within(common, self.bounds)] = stored[source.name][_within(common, its)]
        return array


def _stored(index: Index, entry: TensorEntry, part: Slice) -> TensorEntry:
    stored = index.entries.get(stored_name(entry.name, part))
    if stored is None:
        raise ValueError(f"its slice {part} is missing")
    if stored.dtype != entry.dtype or stored.shape != part.shape(entry.shape) or stored.slices:
        raise ValueError(f"its slice {part} is of {stored.dtype} {list(stored.shape)}")
    return stored


def _check_disjoint(boxes: Sequence[Bounds]) -> None:
    starts, stops = (np.array([[extent[end] for extent in box] for box in boxes], np.int64) for end in (0, 1))
    for number in range(1, len(boxes)):
        overlaps = (starts[:number] < stops[number]) & (starts[number] < stops[:number])
        if overlaps.all(axis=1).any():
            raise ValueError("its slices overlap")


def _common(first: Bounds, second: Bounds) -> Bounds:
    return tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(first, second, strict=True))


def _volume(bounds: Bounds) -> int:
    return math.prod(max(0, stop - start) for start, stop in bounds)


def _within(bounds: Bounds, outer: Bounds) -> tuple[slice, ...]:
    return tuple(slice(start - base, stop - base) for (start, stop), (base, _) in zip(bounds, outer, strict=True))
