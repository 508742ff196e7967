"""Pipelines of tf.data: what a training does for one that it is given."""

from typing import Any

import tensorflow as tf

__all__ = ["read_ahead"]

_NOTHING_TO_TUNE = {
    "BatchDatasetV2",
    "CacheDatasetV2",
    "ConcatenateDataset",
    "RangeDataset",
    "RepeatDataset",
    "ShardDataset",
    "ShuffleDataset",
    "ShuffleDatasetV2",
    "ShuffleDatasetV3",
    "SkipDataset",
    "TakeDataset",
    "TensorDataset",
    "TensorSliceDataset",
    "ZipDataset",
}
"""What works on data in memory, in one thread and one way."""

_BATCHES_AHEAD = 8


def read_ahead(dataset: Any) -> Any:
    """Lets the next batches be made while a step runs, at the least cost.

    TensorFlow does so by itself, with a buffer whose size it tunes by the times that every element takes. Where that
    size is all that there is to tune, the watch costs about a quarter of the time that the pipeline needs: such a
    pipeline gets a buffer of its own, and no watch. All others, and those with options of the user, stay as they are.

    Args:
        dataset: A tf.data.Dataset of batches, made in a graph.

    Returns:
        A dataset of the same batches, in the same order.
    """
    if not _kinds(dataset) <= _NOTHING_TO_TUNE:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(_BATCHES_AHEAD).with_options(options)


def _kinds(dataset: Any) -> set[str]:
    """The types of the operations that a dataset consists of."""
    pending, kinds = [dataset._variant_tensor], set()  # noqa: SLF001 - has no public name
    while pending:
        operation = pending.pop().op
        kinds.add(operation.type)
        pending += [source for source in operation.inputs if source.dtype == tf.variant]
    return kinds
