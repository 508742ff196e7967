"""What a training does for the pipeline that feeds it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import dataset_options_pb2

from runner.estimator.inputs.pipeline import read_ahead

_v1 = tf.compat.v1


def in_memory() -> Any:
    return tf.data.Dataset.from_tensor_slices(np.arange(30)).shuffle(30, seed=3).repeat(2).shard(2, 1).batch(4)


def batches(make: Callable[[], Any], *, ahead: bool) -> list[Any]:
    """The first batches, with or without reading ahead."""
    with tf.Graph().as_default(), _v1.Session() as session:
        iterator = _v1.data.make_initializable_iterator(make())
        batch = iterator.get_next()
        if ahead:
            read_ahead(iterator.initializer)
        session.run(iterator.initializer)
        return [session.run(batch) for _ in range(8)]


def operations_after(make: Callable[[], Any]) -> dict[str, Any]:
    """The operations of a graph with a pipeline, by type."""
    with tf.Graph().as_default() as graph:
        read_ahead(_v1.data.make_initializable_iterator(make()).initializer)
        return {operation.type: operation for operation in graph.get_operations()}


def test_a_pipeline_with_nothing_to_tune_gets_a_buffer_and_no_tuner() -> None:
    operations = operations_after(in_memory)

    options = dataset_options_pb2.Options.FromString(operations["OptionsDataset"].get_attr("serialized_options"))
    assert options.autotune_options.HasField("enabled")
    assert not options.autotune_options.enabled
    assert operations["OptionsDataset"].inputs[0].op.type == "PrefetchDataset"
    assert operations["MakeIterator"].inputs[0].op.type == "OptionsDataset"


def test_slices_that_are_read_again_are_kept() -> None:
    assert "CacheDataset" in operations_after(in_memory)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.data.Dataset.from_tensor_slices(np.arange(30)).batch(4),  # read only once
        lambda: tf.data.Dataset.from_tensor_slices(np.arange(30)).take(4).repeat(),  # never read to its end
        lambda: tf.data.Dataset.from_tensor_slices(np.arange(300_000)).repeat(),
        lambda: tf.data.Dataset.from_tensor_slices(tf.zeros([2, 9_000_000])).repeat(),
    ],
)
def test_slices_that_are_many_or_large_or_not_read_again_are_not_kept(make: Callable[[], Any]) -> None:
    assert "CacheDataset" not in operations_after(make)


def test_the_batches_and_their_order_stay_as_they_are() -> None:
    def two_sources() -> Any:
        numbers = tf.data.Dataset.from_tensor_slices(np.arange(7))
        return numbers.concatenate(numbers.skip(2)).shuffle(5, seed=1).repeat().batch(4)

    for make in (in_memory, two_sources):
        for one, other in zip(batches(make, ahead=False), batches(make, ahead=True), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "change",
    [
        lambda dataset: dataset.map(lambda number: number + 1),
        lambda dataset: dataset.prefetch(2),
        lambda dataset: dataset.with_options(tf.data.Options()),
        lambda dataset: dataset.interleave(tf.data.Dataset.from_tensors),
    ],
)
def test_a_pipeline_with_something_to_tune_or_options_of_its_own_stays_as_it_is(change: Callable[[Any], Any]) -> None:
    with tf.Graph().as_default() as graph:
        initializer = _v1.data.make_initializable_iterator(change(in_memory())).initializer
        before = graph.as_graph_def()

        read_ahead(initializer)

        assert graph.as_graph_def() == before
