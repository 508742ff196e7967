"""Inputs of three tasks that end at different steps, and a model with most of what is local to a task."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from runner import estimator as tfe

_v1 = tf.compat.v1

BATCH_SIZE = 4

N_STEPS = {"shorter": 3, "generator": 2, "empty": 0, "sharded": 3, "tensors": 2, "queue": 1}
"""Steps that all tasks have a batch for, by kind of input."""


def shorter(input_context: tf.distribute.InputContext) -> tf.data.Dataset:
    return _examples().batch(BATCH_SIZE).take([5, 3, 4][input_context.input_pipeline_id])


def generator(input_context: tf.distribute.InputContext) -> tf.data.Dataset:
    def batches() -> Iterator[Any]:
        for _ in range([4, 4, 2][input_context.input_pipeline_id]):
            yield np.ones([BATCH_SIZE, 3], np.float32), np.ones([BATCH_SIZE], np.float32)

    signature = (tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([None], tf.float32))
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def empty(input_context: tf.distribute.InputContext) -> tf.data.Dataset:
    return _examples().batch(BATCH_SIZE).take([2, 2, 0][input_context.input_pipeline_id])


def sharded() -> tf.data.Dataset:
    return _examples().batch(BATCH_SIZE).take(10)  # the chief has a fourth batch, and the others have not


def tensors(input_context: tf.distribute.InputContext) -> Any:
    data = _examples().batch(BATCH_SIZE).take([2, 5, 3][input_context.input_pipeline_id])
    return _v1.data.make_one_shot_iterator(data).get_next()


def queue(input_context: tf.distribute.InputContext) -> Any:
    n_examples = BATCH_SIZE * [2, 1, 2][input_context.input_pipeline_id]
    arrays = [np.ones([n_examples, 3], np.float32), np.ones([n_examples], np.float32)]
    return _v1.train.batch(_v1.train.slice_input_producer(arrays, num_epochs=1, shuffle=False), BATCH_SIZE)


INPUTS: dict[str, Callable[..., Any]] = {
    "shorter": shorter,
    "generator": generator,
    "empty": empty,
    "sharded": sharded,
    "tensors": tensors,
    "queue": queue,
}


def model_fn(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> tfe.EstimatorSpec:
    """Normalizes and drops out; global_step is counted by the optimizer, beside it, or before the gradients."""
    normalization = tf_keras.layers.BatchNormalization(name="normalization")
    hidden = normalization(tf_keras.layers.Dense(8, name="hidden")(features), training=True)
    mask = tf.nn.dropout(tf.ones_like(hidden), rate=0.5)
    _v1.add_to_collection("masks", mask)
    logits = tf_keras.layers.Dense(1, name="logits")(hidden * mask)
    step, optimizer = _v1.train.get_global_step(), _v1.train.AdamOptimizer(0.1)
    updates = list(normalization.updates)
    if params["counts"] == "before":
        updates.append(step.assign_add(1))
    with tf.control_dependencies(updates if params["counts"] != "beside" else []):
        loss = tf.reduce_mean(tf.square(logits[:, 0] - labels))
        train_op = optimizer.minimize(loss, step if params["counts"] == "inside" else None)
    if params["counts"] == "beside":
        train_op = tf.group(train_op, step.assign_add(1), *updates)
    return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op)


class Report(tf.compat.v1.train.SessionRunHook):
    """Prints the dropout mask of each step, and in the end the step and all variables, as digests."""

    def __init__(self, name: str) -> None:
        self._name = name

    def begin(self) -> None:
        (self._mask,) = _v1.get_collection("masks")

    def before_run(self, run_context: Any) -> Any:
        return _v1.train.SessionRunArgs(self._mask)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        print("MASK", self._name, _digest([run_values.results]))

    def end(self, session: Any) -> None:
        statistics = [variable for variable in _v1.global_variables() if "moving" in variable.op.name]
        shared = [variable for variable in _v1.global_variables() if "moving" not in variable.op.name]
        step = session.run(_v1.train.get_global_step())
        print("END", self._name, step, _digest(session.run(shared)), _digest(session.run(statistics)))


def train(model_dir: str) -> None:
    """Trains with each kind of input until it ends."""
    ways = ["before", "beside", "inside"]
    for index, (name, input_fn) in enumerate(INPUTS.items()):
        params = {"counts": ways[index % len(ways)]}
        estimator = tfe.Estimator(model_fn, f"{model_dir}/{name}", config=tfe.RunConfig(), params=params)
        estimator.train(input_fn, hooks=[Report(name)])


def _examples() -> tf.data.Dataset:
    random = np.random.default_rng(0)
    x, y = random.normal(size=[40, 3]).astype(np.float32), random.normal(size=[40]).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((x, y))


def _digest(arrays: list[Any]) -> str:
    return hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in arrays)).hexdigest()[:12]
