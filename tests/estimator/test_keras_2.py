"""Keras 2 in a model_fn: layers, their statistics and their random numbers, and rnn cells work as they did."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from runner import estimator as tfe
from runner.estimator.keras_guard import guarding_keras

_v1 = tf.compat.v1

pytestmark = pytest.mark.filterwarnings("ignore:`tf.*` is deprecated and will be removed:UserWarning")


class Fetched(tf.compat.v1.train.SessionRunHook):
    """The values that the tensor called `seen` had at every step."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def before_run(self, run_context: Any) -> Any:
        return _v1.train.SessionRunArgs("seen:0")

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.values.append(run_values.results)


def input_fn() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(({"x": np.arange(8, dtype=np.float32).reshape(4, 2)}, np.ones([4, 1]))).repeat(
        3
    )


Network = Callable[..., tuple[Any, list[Any]]]
"""(inputs, training=whether it trains) -> outputs, and the updates that a step has to run."""


def make(model_dir: Path, network: Network) -> tfe.Estimator:
    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        outputs, updates = network(features["x"], training=mode == tfe.ModeKeys.TRAIN)
        outputs = tf.identity(outputs, name="seen")
        weight = _v1.get_variable("weight", [2, 1], initializer=_v1.ones_initializer())
        loss = tf.reduce_mean(tf.square(outputs @ weight - tf.cast(labels, tf.float32)))
        with tf.control_dependencies(updates):
            train_op = _v1.train.GradientDescentOptimizer(0.01).minimize(loss, _v1.train.get_global_step())
        return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return tfe.Estimator(model_fn, str(model_dir))


def v1_batch_norm(inputs: Any, *, training: bool) -> tuple[Any, list[Any]]:
    outputs = _v1.layers.batch_normalization(inputs, training=training, momentum=0.5, name="bn")
    return outputs, _v1.get_collection(_v1.GraphKeys.UPDATE_OPS)


def keras_batch_norm(inputs: Any, *, training: bool) -> tuple[Any, list[Any]]:
    layer = tf_keras.layers.BatchNormalization(momentum=0.5, name="bn")
    outputs = layer(inputs, training=training)
    return outputs, layer.updates


def v1_dropout(inputs: Any, *, training: bool) -> tuple[Any, list[Any]]:
    return _v1.layers.dropout(inputs + 1.0, 0.5, training=training), []


def keras_dropout(inputs: Any, *, training: bool) -> tuple[Any, list[Any]]:
    return tf_keras.layers.Dropout(0.5)(inputs + 1.0, training=training), []


@pytest.mark.parametrize("network", [v1_batch_norm, keras_batch_norm])
def test_statistics_of_a_batch_norm_move_and_evaluation_uses_them(tmp_path: Path, network: Network) -> None:
    estimator, seen = make(tmp_path, network), Fetched()

    estimator.train(input_fn, steps=2)
    estimator.evaluate(input_fn, steps=1, hooks=[seen])

    # The means of the batch are 3 and 4; each step halves the distance to them.
    mean = estimator.get_variable_value("bn/moving_mean")
    variance = estimator.get_variable_value("bn/moving_variance")
    gamma, beta = estimator.get_variable_value("bn/gamma"), estimator.get_variable_value("bn/beta")
    np.testing.assert_allclose(mean, [2.25, 3.0], rtol=1e-6)
    inputs = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_allclose(seen.values[0], (inputs - mean) / np.sqrt(variance + 1e-3) * gamma + beta, rtol=1e-4)


@pytest.mark.parametrize("network", [v1_dropout, keras_dropout])
def test_dropout_drops_others_at_every_step_and_none_in_evaluation(tmp_path: Path, network: Network) -> None:
    estimator, training, evaluation = make(tmp_path, network), Fetched(), Fetched()

    estimator.train(lambda: input_fn().repeat(7), hooks=[training], steps=20)
    estimator.evaluate(input_fn, hooks=[evaluation], steps=2)

    masks = {tuple((value > 0).ravel()) for value in training.values}
    assert len(masks) > 10  # of 256 possible ones; that 20 draws give so few has no chance
    assert all((value > 0).all() for value in evaluation.values)


@pytest.mark.parametrize("cell", ["BasicRNNCell", "GRUCell", "LSTMCell"])
def test_rnn_cells_train(tmp_path: Path, cell: str) -> None:
    def network(inputs: Any, *, training: bool) -> tuple[Any, list[Any]]:
        cells = _v1.nn.rnn_cell.MultiRNNCell([getattr(_v1.nn.rnn_cell, cell)(2), _v1.nn.rnn_cell.GRUCell(2)])
        outputs, _ = _v1.nn.dynamic_rnn(cells, inputs[:, :, tf.newaxis], dtype=tf.float32)
        return outputs[:, -1], []

    estimator = make(tmp_path, network)

    estimator.train(input_fn, steps=1)
    names = [name for name in estimator.get_variable_names() if name.startswith("rnn/multi_rnn_cell/cell_0/")]
    before = {name: estimator.get_variable_value(name) for name in names}
    estimator.train(input_fn, steps=2)

    assert names
    for name, value in before.items():
        assert (estimator.get_variable_value(name) != value).any(), name


def test_layers_of_keras_2_are_there_in_a_model_fn_only() -> None:
    with guarding_keras(), tf.Graph().as_default():
        assert _v1.layers.dense(tf.ones([1, 2]), 3).shape == (1, 3)
        assert issubclass(_v1.nn.rnn_cell.LSTMCell, tf_keras.layers.Layer)

    assert not hasattr(_v1.layers, "dense")
    assert not hasattr(_v1.nn.rnn_cell, "LSTMCell")


SCRIPT = """
import sys, tensorflow as tf
from runner import estimator as tfe

def model_fn(features, labels, mode):
    layer = tf.keras.layers.BatchNormalization(momentum=0.5, name="bn")
    loss = tf.reduce_mean(tf.compat.v1.layers.dense(layer(features["x"], training=True), 1))
    optimizer = tf.keras.optimizers.legacy.SGD(0.1)
    optimizer.iterations = tf.compat.v1.train.get_global_step()
    with tf.control_dependencies(layer.updates):
        train_op = tf.group(optimizer.get_updates(loss, tf.compat.v1.trainable_variables()))
    metric = tf.keras.metrics.Mean(name="mean")
    metric.update_state(labels)
    return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops={"mean": metric})

estimator = tfe.Estimator(model_fn, sys.argv[1])
input_fn = lambda: tf.data.Dataset.from_tensors(({"x": [[3.0, 4.0]]}, [5.0])).repeat()
estimator.train(input_fn, steps=2)
print(estimator.get_variable_value("bn/moving_mean").tolist(), estimator.evaluate(input_fn, steps=1)["mean"])
"""


def test_with_legacy_keras_tf_keras_is_keras_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")

    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout == "[2.25, 3.0] 5.0\n"
