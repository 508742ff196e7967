"""Keras in a model_fn: what would be silently wrong in a graph is refused, and nothing else is."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
import tf_keras

from runner import estimator as tfe
from runner.estimator.keras_guard import guarding_keras


def input_fn() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(({"x": [[1.0], [2.0]]}, [[2.0], [4.0]])).repeat(3)


def make(model_dir: Path, *, layer: Callable[[], Any], optimizer: Callable[[], Any]) -> tfe.Estimator:
    """A linear model of one layer, trained by `apply_gradients`."""

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        predictions = layer()(features["x"])
        if mode == tfe.ModeKeys.PREDICT:
            return tfe.EstimatorSpec(mode, predictions=predictions)
        loss = tf.reduce_mean(tf.square(predictions - labels))
        variables = tf.compat.v1.trainable_variables()
        update = optimizer().apply_gradients(zip(tf.gradients(loss, variables), variables, strict=True))
        with tf.control_dependencies([update]):
            step = tf.compat.v1.train.get_global_step().assign_add(1)
        return tfe.EstimatorSpec(mode, loss=loss, train_op=step)

    return tfe.Estimator(model_fn, str(model_dir))


def dense() -> Any:
    return tf_keras.layers.Dense(1)


def sgd() -> Any:
    return tf_keras.optimizers.legacy.SGD(0.1)


class Own(keras.layers.Dense):
    """A layer of the user."""


class Composed(keras.layers.Layer):
    """A layer of the user that makes another one when it is called."""

    def call(self, inputs: Any) -> Any:
        return keras.layers.Dense(1)(inputs)


def built() -> Any:
    layer = keras.layers.Dense(1)
    layer.build((None, 1))
    return layer


def functional() -> Any:
    inputs = keras.Input((1,))
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


@pytest.mark.parametrize(
    ("layer", "replacement"),
    [
        (lambda: keras.layers.Dense(1), "tf_keras.layers.Dense"),
        (built, "tf_keras.layers.Dense"),
        (lambda: keras.layers.Dropout(0.5), "tf_keras.layers.Dropout"),
        (keras.layers.BatchNormalization, "tf_keras.layers.BatchNormalization"),
        (Composed, "tf_keras.layers.Layer"),
        (functional, "tf_keras.layers.Dense"),
        (lambda: Own(1), "tf_keras.layers.Dense"),
        (lambda: keras.Sequential([keras.layers.Dense(1)]), "tf_keras.Sequential"),
        (lambda: keras.Sequential([keras.layers.Dropout(0.5)]), "tf_keras.Sequential"),
    ],
)
def test_a_layer_of_keras_3_is_refused_with_its_replacement(tmp_path: Path, layer: Any, replacement: str) -> None:
    estimator = make(tmp_path / "model", layer=layer, optimizer=sgd)

    for call in (estimator.train, estimator.evaluate, lambda input_fn: next(estimator.predict(input_fn))):
        with pytest.raises(ValueError, match=rf"is a layer of Keras 3.* Use {replacement} in its place"):
            call(input_fn)

    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Flatten,
        lambda: keras.layers.Reshape((4,)),
        lambda: keras.layers.Activation("relu"),
        lambda: keras.layers.Dropout(0.0),
        lambda: keras.layers.Permute((2, 1)),
        lambda: keras.Sequential([keras.layers.MaxPooling1D(2), keras.layers.Softmax()]),
    ],
)
def test_a_layer_of_keras_3_without_state_does_in_a_graph_what_it_does_outside(layer: Callable[[], Any]) -> None:
    values = tf.reshape(tf.range(8.0), [2, 2, 2]) - 4.0
    expected = layer()(values).numpy()

    with tf.Graph().as_default(), guarding_keras(), tf.compat.v1.Session() as session:
        actual = session.run(layer()(tf.compat.v1.placeholder_with_default(values.numpy(), [None, 2, 2])))

    assert actual.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("optimizer", "replacement"),
    [
        (lambda: keras.optimizers.SGD(0.1), "tf_keras.optimizers.legacy.SGD"),
        (lambda: keras.optimizers.AdamW(0.1), "tf_keras.optimizers.legacy.Adam"),
        (lambda: tf_keras.optimizers.RMSprop(0.1), "tf_keras.optimizers.legacy.RMSprop"),
    ],
)
def test_an_optimizer_that_is_not_legacy_is_refused_with_its_replacement(
    tmp_path: Path, optimizer: Any, replacement: str
) -> None:
    estimator = make(tmp_path / "model", layer=dense, optimizer=optimizer)

    with pytest.raises(
        ValueError, match=rf"updates nothing in the graph of a model_fn\. Use {replacement} in its place"
    ):
        estimator.train(input_fn)


def test_apply_of_keras_3_is_refused_too() -> None:
    with guarding_keras(), pytest.raises(ValueError, match=r"tf_keras\.optimizers\.legacy\.SGD"):
        keras.optimizers.SGD(0.1).apply([], [])


def test_metrics_of_keras_3_are_refused_with_their_replacement() -> None:
    metric = keras.metrics.Mean()

    with guarding_keras():
        with pytest.raises(ValueError, match=r"is a metric of Keras 3.* Use tf_keras\.metrics\.AUC in its place"):
            keras.metrics.AUC()
        with pytest.raises(ValueError, match=r"is a metric of Keras 3.* Use tf_keras\.metrics\.Mean in its place"):
            metric([1.0])


def test_random_numbers_of_keras_3_are_refused_too() -> None:
    with guarding_keras(), pytest.raises(ValueError, match=r"Use those of tf\.random in their place"):
        keras.random.normal([1])


def test_layers_of_tf_keras_and_legacy_optimizers_train(tmp_path: Path) -> None:
    estimator = make(tmp_path, layer=dense, optimizer=sgd)

    estimator.train(input_fn)

    assert estimator.evaluate(input_fn)["global_step"] == 3


def patched() -> list[Any]:
    return [
        keras.Layer.__call__,
        keras.Metric.__call__,
        keras.Metric.__init__,
        keras.Variable.__init__,
        keras.optimizers.Optimizer.apply,
        keras.optimizers.Optimizer.apply_gradients,
        keras.random.SeedGenerator.next,
        tf_keras.optimizers.Optimizer.apply_gradients,
    ]


def test_outside_of_a_model_fn_keras_works_as_before(tmp_path: Path) -> None:
    before = patched()
    with pytest.raises(ValueError, match="Keras 3"):
        make(tmp_path, layer=lambda: keras.layers.Dense(1), optimizer=sgd).train(input_fn)

    after = patched()
    assert after == before
    assert "apply_gradients" not in vars(keras.optimizers.Optimizer)
    assert keras.layers.Dense(1)(tf.ones([1, 1])).shape == (1, 1)


def test_another_thread_uses_keras_meanwhile_and_guards_may_overlap() -> None:
    before = keras.Layer.__call__
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with guarding_keras():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    try:
        assert keras.layers.Dense(1)(tf.ones([1, 1])).shape == (1, 1)
        with guarding_keras():
            leave.set()
            thread.join()
            with guarding_keras(), pytest.raises(ValueError, match="Keras 3"):
                keras.layers.Dense(1)(tf.ones([1, 1]))
            with pytest.raises(ValueError, match="Keras 3"):
                keras.layers.Dense(1)(tf.ones([1, 1]))
    finally:
        leave.set()

    assert keras.Layer.__call__ is before
