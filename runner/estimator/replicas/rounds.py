"""Rounds: what the replicas exchange at one point of every step, in one call into the eager runtime."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.replicas.buckets import Buckets
from runner.estimator.replicas.collectives import Collectives
from runner.estimator.replicas.sparse_gradients import MAX_ROWS, Table, average_slices

__all__ = ["Round"]


class Round:
    """Means over the replicas, which make their rounds in one order.

    The first bucket begins with what all have to know before they go on: the flag, and the row counts of the sparse
    gradients, of which each replica fills in its own.

    Args:
        collectives: This replica's.
        on_flag: Called instead of what follows if a replica raises its flag; None means that there is no flag here.
    """

    def __init__(self, collectives: Collectives, *, on_flag: Callable[[], None] | None = None) -> None:
        self._collectives = collectives
        self._on_flag = on_flag
        self._tables: list[Table] = []
        self.first_size: int | None = None
        """Number of elements of the first bucket; None as long as no step has shown it."""
        self.op: Any = None
        """The operation that makes the exchange."""

    def mean(self, tensors: Sequence[Any], slices: Sequence[tuple[Table, Any]] = ()) -> tuple[list[Any], list[Any]]:
        """Means of dense tensors and of sparse gradients.

        Args:
            tensors: Of any shapes and dtypes.
            slices: tf.IndexedSlices with their tables.

        Returns:
            Tensors like `tensors`, and tf.IndexedSlices like those of `slices`.
        """
        self._tables = [table for table, _ in slices]
        header = [tf.zeros([1])] if self._on_flag else []
        if slices:
            header.append(self._own_counts([gradient for _, gradient in slices]))
        buckets = Buckets([*header, *tensors])
        flats = buckets.pack()
        self.first_size = flats[0].shape.num_elements()
        pairs = [part for _, gradient in slices for part in (gradient.indices, gradient.values)]
        inputs = [*flats, *pairs]
        outputs = tf.py_function(self._exchange, inputs, [each.dtype for each in inputs])
        self.op = outputs[0].op
        means = buckets.unpack(outputs[: len(flats)])[len(header) :]
        pairs = list(zip(outputs[len(flats) :: 2], outputs[len(flats) + 1 :: 2], strict=True))
        return means, [_slices(*pair, like=each) for pair, each in zip(pairs, slices, strict=True)]

    def _own_counts(self, gradients: list[Any]) -> Any:
        """[replicas * gradients] float32, zero but in this replica's part."""
        counts = tf.stack([tf.minimum(tf.size(gradient.indices), MAX_ROWS) for gradient in gradients])
        rows = tf.one_hot(self._collectives.index, self._collectives.count)[:, tf.newaxis]
        return tf.reshape(rows * tf.cast(counts, tf.float32), [-1])

    def _exchange(self, *inputs: Any) -> list[Any]:
        n_flats = len(inputs) - 2 * len(self._tables)
        reduce = self._collectives.all_reduce_mean
        self.first_size = int(inputs[0].shape[0])
        first = reduce(inputs[0])
        if self._on_flag and memoryview(first)[0] > 0:
            self._on_flag()
        means = [first, *(reduce(flat) for flat in inputs[1:n_flats])]
        if self._tables:
            slices = list(zip(inputs[n_flats::2], inputs[n_flats + 1 :: 2], strict=True))
            for pair in average_slices(self._collectives, self._tables, slices, self._all_counts(memoryview(first))):
                means += pair
        return means

    def _all_counts(self, first: memoryview) -> list[list[int]]:
        width, start = len(self._tables), 1 if self._on_flag else 0
        flat = [round(first[start + i] * self._collectives.count) for i in range(width * self._collectives.count)]
        return [flat[i : i + width] for i in range(0, len(flat), width)]


def _slices(indices: Any, values: Any, *, like: tuple[Table, Any]) -> Any:
    table, gradient = like
    indices, values = tf.ensure_shape(indices, [None]), tf.ensure_shape(values, [None, *table.row_shape])
    return tf.IndexedSlices(values, indices, gradient.dense_shape)
