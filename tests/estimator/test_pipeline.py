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


def batches(make: Callable[[], Any]) -> list[Any]:
    with tf.Graph().as_default(), _v1.Session() as session:
        batch = _v1.data.make_one_shot_iterator(make()).get_next()
        return [session.run(batch) for _ in range(8)]


def test_a_pipeline_with_nothing_to_tune_gets_a_buffer_and_no_tuner() -> None:
    with tf.Graph().as_default():
        read_ahead(in_memory())
        operations = {operation.type: operation for operation in _v1.get_default_graph().get_operations()}

    options = dataset_options_pb2.Options.FromString(operations["OptionsDataset"].get_attr("serialized_options"))
    assert options.autotune_options.HasField("enabled")
    assert not options.autotune_options.enabled
    assert "PrefetchDataset" in operations


def test_the_batches_and_their_order_stay_as_they_are() -> None:
    as_given, ahead = batches(in_memory), batches(lambda: read_ahead(in_memory()))

    for one, other in zip(as_given, ahead, strict=True):
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
    with tf.Graph().as_default():
        dataset = change(in_memory())

        assert read_ahead(dataset) is dataset
