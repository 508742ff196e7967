"""Sparse gradients: rows of a table, as the gradient of an embedding has them, averaged over the replicas.

They travel as rows, or as the whole table where that is smaller. Either way the result has the rows that any replica
has, and no other: an optimizer that leaves the rest alone (Ftrl, say) has to see what one process with the whole batch
would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from runner.estimator.replicas.buckets import Buckets
from runner.estimator.replicas.collectives import Collectives

__all__ = ["MAX_ROWS", "Table", "average_slices"]

MAX_ROWS = 1 << 22
"""Row counts travel as float32; a table of which a replica has more rows than that travels whole."""

_SMALL_ELEMENTS = 4096
"""A table of up to that many elements rides with the dense gradients: rows would cost a collective of their own."""


@dataclass(frozen=True)
class Table:
    """The variable whose rows a sparse gradient has.

    Attributes:
        n_rows: Its first dimension.
        row_shape: Its other dimensions.
        dtype: Of the values.
        index_dtype: Of the indices.
    """

    n_rows: int
    row_shape: tuple[int, ...]
    dtype: Any
    index_dtype: Any

    @classmethod
    def of(cls, gradient: Any, variable: Any) -> "Table | None":
        """The table of a tf.IndexedSlices; None for a dense gradient, or a table of unknown shape."""
        if not isinstance(gradient, tf.IndexedSlices) or not variable.shape.is_fully_defined():
            return None
        n_rows, *row_shape = variable.shape.as_list()
        return cls(n_rows, tuple(row_shape), gradient.values.dtype, gradient.indices.dtype)

    @property
    def is_small(self) -> bool:
        """Whether it is best sent whole without a look at the rows."""
        return self.n_rows * int(np.prod(self.row_shape)) <= _SMALL_ELEMENTS

    @property
    def row_bytes(self) -> int:
        """Size of a row and its index."""
        return int(self.dtype.size * np.prod(self.row_shape) + self.index_dtype.size)

    def whole(self, indices: Any, values: Any) -> list[Any]:
        """The gradient of the whole table, and how often each row is in it."""
        ones = tf.ones_like(indices, self.dtype)
        return [tf.math.unsorted_segment_sum(part, indices, self.n_rows) for part in (values, ones)]

    def rows(self, whole: Any, occurrences: Any) -> tuple[Any, Any]:
        """The indices and values of the rows that occur; inverse of `whole`."""
        indices = tf.where(occurrences > 0)[:, 0]
        return tf.cast(indices, self.index_dtype), tf.gather(whole, indices)


def average_slices(
    collectives: Collectives,
    tables: Sequence[Table],
    slices: Sequence[tuple[Any, Any]],
    counts: Sequence[Sequence[int]],
) -> list[tuple[Any, Any]]:
    """Exchanges sparse gradients; called by every replica with the same tables and counts.

    Args:
        collectives: This replica's.
        tables: Of the gradients.
        slices: (indices, values) of each, eager: [n], [n, *row_shape].
        counts: n of every gradient, by replica.

    Returns:
        (indices, values) of the mean, with duplicates.
    """
    largest = [max(column) for column in zip(*counts, strict=True)]
    as_rows = [
        index
        for index, (table, n_rows) in enumerate(zip(tables, largest, strict=True))
        if n_rows < MAX_ROWS and n_rows * collectives.count <= table.n_rows
    ]
    whole = [index for index in range(len(tables)) if index not in as_rows]
    means: dict[int, tuple[Any, Any]] = {}
    if whole:
        means |= zip(whole, _reduce(collectives, [tables[i] for i in whole], [slices[i] for i in whole]), strict=True)
    if as_rows:
        own_counts = [[row[i] for i in as_rows] for row in counts]
        gathered = _gather(collectives, [tables[i] for i in as_rows], [slices[i] for i in as_rows], own_counts)
        means |= zip(as_rows, gathered, strict=True)
    return [means[index] for index in range(len(tables))]


def _reduce(collectives: Collectives, tables: list[Table], slices: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    with context.eager_mode(), tf.device("/cpu:0"):
        parts = [part for table, pair in zip(tables, slices, strict=True) for part in table.whole(*pair)]
        means = Buckets(parts).mean(collectives.all_reduce_mean)
        return [
            table.rows(*pair) for table, pair in zip(tables, zip(means[::2], means[1::2], strict=True), strict=True)
        ]


def _gather(
    collectives: Collectives, tables: list[Table], slices: list[tuple[Any, Any]], counts: list[list[int]]
) -> list[tuple[Any, Any]]:
    """One gather for all tables: of each its indices and its values, end to end.

    A gather of unequal lengths aborts, so that a task with fewer rows than another sends zeros after them.
    """
    payload = b"".join(part.numpy().tobytes() for pair in slices for part in pair)
    sizes = [sum(n * table.row_bytes for n, table in zip(row, tables, strict=True)) for row in counts]
    if not max(sizes):
        return [(_array(b"", table.index_dtype, ()), _array(b"", table.dtype, table.row_shape)) for table in tables]
    received = collectives.all_gather(payload, largest_bytes=max(sizes))
    by_replica = [list(_unpack(data, tables, row)) for data, row in zip(received, counts, strict=True)]
    means = []
    for pairs in zip(*by_replica, strict=True):
        indices, values = (np.concatenate(part) for part in zip(*pairs, strict=True))
        means.append((indices, values / values.dtype.type(collectives.count)))
    return means


def _unpack(data: memoryview, tables: list[Table], counts: list[int]) -> Any:
    start = 0
    for table, n_rows in zip(tables, counts, strict=True):
        middle, end = start + n_rows * table.index_dtype.size, start + n_rows * table.row_bytes
        yield _array(data[start:middle], table.index_dtype, ()), _array(data[middle:end], table.dtype, table.row_shape)
        start = end


def _array(data: bytes | memoryview, dtype: Any, row_shape: tuple[int, ...]) -> Any:
    return np.frombuffer(data, dtype.as_numpy_dtype).reshape(-1, *row_shape)
