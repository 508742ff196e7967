"""Batches of the rows of arrays in memory."""

import logging
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["batches_of_rows", "check_shuffle"]

_logger = logging.getLogger("tensorflow")


def check_shuffle(shuffle: Any) -> None:
    """Makes the caller of an input decide on the order.

    Raises:
        ValueError: `shuffle` is not a bool.
    """
    if not isinstance(shuffle, bool):
        raise ValueError(  # noqa: TRY004 - the original raises it
            "shuffle must be provided and explicitly set as boolean (it is recommended to set it as True for "
            f"training); got {shuffle}"
        )


def batches_of_rows(
    arrays: Any, *, batch_size: int, num_epochs: int | None, shuffle: bool, queue_capacity: int, num_threads: int
) -> tf.data.Dataset:
    """Reads arrays row by row, each epoch directly after the one before, so that a batch may hold rows of both.

    The arrays stay out of the graph, which would else have a copy in every checkpoint's `.meta` and be limited to 2 GB.

    Args:
        arrays: Arrays `[rows, ...]` in tuples and dicts.
        batch_size: Number of rows in a batch; the last one may have fewer.
        num_epochs: How often each row is read; None means without end.
        shuffle: Whether each epoch has an order of its own, under the seed of the graph.
        queue_capacity: Number of rows to read ahead.
        num_threads: Each reads num_epochs epochs, as in the original; one after the other here.

    Returns:
        A dataset of the same structure, with tensors `[batch, ...]`. In a graph, one of pairs can also be taken apart
        into the tensors of a pair: `features, labels = dataset`.
    """
    columns = [_column(array) for array in tf.nest.flatten(arrays)]
    count = columns[0].shape[0]
    if num_threads > 1 and num_epochs is not None:
        _logger.warning(
            "Every one of the %d threads reads %s epochs, %d in all. Use one thread to read num_epochs.",
            num_threads,
            num_epochs,
            num_threads * num_epochs,
        )

    def read(rows: Any) -> Any:
        dtypes = [tf.as_dtype(column.dtype) for column in columns]
        tensors = tf.numpy_function(lambda rows: [column[rows] for column in columns], [rows], dtypes, stateful=False)
        for tensor, column in zip(tensors, columns, strict=True):
            tensor.set_shape([rows.shape[0], *column.shape[1:]])
        return tf.nest.pack_sequence_as(arrays, tensors)

    dataset = tf.data.Dataset.range(count)
    if shuffle:
        dataset = dataset.shuffle(count)
    dataset = dataset.repeat(None if num_epochs is None else num_epochs * num_threads)
    # Without an end no batch is short: nothing is dropped, and the graph knows the size of its batches.
    dataset = dataset.batch(batch_size, drop_remainder=num_epochs is None)
    return _Batches(dataset.map(read).prefetch(max(1, queue_capacity // batch_size)))


class _Batches(tf.data.Dataset):
    """A dataset for scripts that expect tensors: the original returns a pair of them, which scripts take apart."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        super().__init__(dataset._variant_tensor)  # noqa: SLF001 - a dataset has no public name for what it is

    @property
    def element_spec(self) -> Any:
        """Structure, types and shapes of a batch."""
        return self._dataset.element_spec

    def __iter__(self) -> Any:
        """The batches; in a graph, where no dataset can be iterated, the features and labels of the next one."""
        if tf.executing_eagerly() or tf.inside_function() or not isinstance(self.element_spec, tuple):
            return super().__iter__()
        iterator = tf.compat.v1.data.make_initializable_iterator(self)
        # Every session runs these once its variables are there.
        tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        return iter(iterator.get_next())

    def _inputs(self) -> list[Any]:
        return [self._dataset]


def _column(array: Any) -> Any:
    # Only arrays of objects become tensors of strings of any length.
    array = np.asarray(array)
    return array.astype(object) if array.dtype.kind in "US" else array
