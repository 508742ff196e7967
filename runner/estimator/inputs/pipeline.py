"""Pipelines of tf.data: what a training does for one that it is given."""

from typing import Any

import tensorflow as tf
from tensorflow.core.framework import dataset_options_pb2

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

_MAY_NOT_READ_ALL = {"TakeDataset", "ZipDataset"}
"""What is kept is used once all was read."""

_BATCHES_AHEAD = 8

_MAX_KEPT_SLICES = 200_000
"""About 20 MB, beside the values themselves."""

_MAX_KEPT_BYTES = 64 * 1024 * 1024


def read_ahead(initializer: Any) -> None:
    """Lets the next batches be made while a step runs, at the least cost.

    TensorFlow does so by itself, with a buffer whose size it tunes by the times that every element takes. Where that
    size is all that there is to tune, the watch costs about a quarter of the time that the pipeline needs: such a
    pipeline gets a buffer of its own, and no watch. Slices of tensors that are read again and again, which take most of
    the rest, are kept if they are few. All other pipelines, and those with options of the user, stay as they are. The
    batches and their order are the same.

    To be called when the model is built: the seeds of its operations count those that were made before them.

    Args:
        initializer: The operation that begins an iterator with a dataset of batches; nothing has run yet.
    """
    dataset, iterator = initializer.inputs
    operations = _operations(dataset)
    kinds = {operation.type for operation in operations}
    if not kinds <= _NOTHING_TO_TUNE:
        return
    with tf.device("/cpu:0"), tf.name_scope("read_ahead"):
        if "RepeatDataset" in kinds and not kinds & _MAY_NOT_READ_ALL:
            for operation in operations:
                if operation.type == "TensorSliceDataset" and _is_small(operation):
                    _keep_slices(operation)
        initializer._update_input(0, _buffered(dataset, iterator.op))  # noqa: SLF001 - no public way


def _operations(dataset: Any) -> list[Any]:
    """The operations that make a dataset."""
    pending: list[Any] = [dataset.op]
    found: list[Any] = []
    while pending:
        operation = pending.pop()
        if operation not in found:
            found.append(operation)
            pending += [source.op for source in operation.inputs if source.dtype == tf.variant]
    return found


def _buffered(dataset: Any, iterator: Any) -> Any:
    """The dataset with a buffer behind it and without a tuner."""
    elements = {name: iterator.get_attr(name) for name in ("output_types", "output_shapes")}
    ahead = tf.raw_ops.PrefetchDataset(input_dataset=dataset, buffer_size=_BATCHES_AHEAD, **elements)
    options = dataset_options_pb2.Options(autotune_options=dataset_options_pb2.AutotuneOptions(enabled=False))
    return tf.raw_ops.OptionsDataset(input_dataset=ahead, serialized_options=options.SerializeToString(), **elements)


def _is_small(slices: Any) -> bool:
    shapes = [component.shape for component in slices.inputs]
    if not all(shape.is_fully_defined() for shape in shapes):
        return False
    size = sum(each.shape.num_elements() * each.dtype.size for each in slices.inputs)
    return sum(shape[0] for shape in shapes) <= _MAX_KEPT_SLICES and size <= _MAX_KEPT_BYTES


def _keep_slices(slices: Any) -> None:
    """Puts what `Dataset.cache` does between a dataset of slices and what reads it."""
    (output,) = slices.outputs
    readers = output.consumers()
    kept = tf.raw_ops.CacheDataset(
        input_dataset=output,
        filename="",
        output_types=slices.get_attr("Toutput_types"),
        output_shapes=slices.get_attr("output_shapes"),
    )
    for reader in readers:
        index = [source is output for source in reader.inputs].index(True)
        reader._update_input(index, kept)  # noqa: SLF001 - no public way
