"""Optimizers of canned estimators: names, callables and objects of every kind."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from runner import estimator as tfe

_legacy = tf_keras.optimizers.legacy


def input_fn(n_classes: int) -> tf.data.Dataset:
    features = {"x": np.arange(32, dtype=np.float32).reshape(8, 4) / 32, "cat": np.array(["a", "b", "c", "z"] * 2)}
    return tf.data.Dataset.from_tensor_slices((features, np.arange(8) % n_classes)).repeat(3).batch(8)


def columns() -> list[Any]:
    return [tf.feature_column.numeric_column("x", shape=(4,))]


def test_a_v1_optimizer_trains_too(tmp_path: Path) -> None:
    estimator = tfe.DNNClassifier(
        [4], columns(), str(tmp_path), optimizer=lambda: tf.compat.v1.train.AdamOptimizer(0.01)
    )

    estimator.train(lambda: input_fn(2))

    assert tf.train.load_variable(str(tmp_path), "global_step") == 3
    assert estimator.evaluate(lambda: input_fn(2))["global_step"] == 3


def test_a_learning_rate_may_be_a_tensor_that_follows_the_global_step(tmp_path: Path) -> None:
    def decayed() -> Any:
        return tf.compat.v1.train.exponential_decay(0.1, tf.compat.v1.train.get_global_step(), 1, 0.5)

    for name, optimizer in {
        "tensor": lambda: _legacy.Adam(learning_rate=decayed()),
        "callable": lambda: _legacy.Adam(learning_rate=decayed),
        "instance": _legacy.Adam(learning_rate=decayed),
    }.items():
        model_dir = str(tmp_path / name)
        estimator = tfe.DNNClassifier([4], columns(), model_dir, optimizer=optimizer)

        estimator.train(lambda: input_fn(2))

        # As with the original, a rate that is worked out in the graph is not stored.
        names = {name for name, _ in tf.train.list_variables(model_dir)}
        assert "training/Adam/beta_1" in names
        assert "training/Adam/learning_rate" not in names


def test_a_schedule_of_ones_own_and_gradient_transformers_are_used(tmp_path: Path) -> None:
    class Half(tf_keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return 0.5

        def get_config(self) -> dict[str, Any]:
            return {}

    def ones(grads_and_vars: Any) -> Any:
        return [(tf.ones_like(variable), variable) for _, variable in grads_and_vars]

    estimator = tfe.DNNClassifier(
        [4],
        columns(),
        str(tmp_path),
        optimizer=_legacy.SGD(Half(), gradient_transformers=[ones]),
    )
    estimator.train(lambda: input_fn(2), steps=2)

    assert tf.train.load_variable(str(tmp_path), "dnn/logits/bias") == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [("Lion", "Unsupported optimizer name: Lion"), (3, "Given: 3"), (None, "Given: None")],
)
def test_an_optimizer_that_cannot_train_a_graph_is_refused(tmp_path: Path, optimizer: Any, message: str) -> None:
    estimator = tfe.DNNClassifier([4], columns(), str(tmp_path), optimizer=optimizer)

    with pytest.raises(ValueError, match=message):
        estimator.train(lambda: input_fn(2))


def test_trainings_with_one_optimizer_object_do_not_share_slots(tmp_path: Path) -> None:
    optimizer = _legacy.Adam(0.01)
    for name in ("a", "b"):
        model_dir = str(tmp_path / name)
        estimator = tfe.DNNClassifier([4], columns(), model_dir, optimizer=optimizer)
        estimator.train(lambda: input_fn(2))

        assert tf.train.load_variable(model_dir, "training/Adam/dnn/logits/bias/m").shape == (1,)


def test_a_callable_that_returns_an_optimizer_of_another_graph_is_refused(tmp_path: Path) -> None:
    optimizer = _legacy.Adam(0.01)
    estimator = tfe.DNNClassifier([4], columns(), str(tmp_path), optimizer=lambda: optimizer)
    estimator.train(lambda: input_fn(2))

    with pytest.raises(ValueError, match="Let it make a new one in every call"):
        estimator.train(lambda: input_fn(2))


def test_a_callable_may_bind_its_optimizer_to_the_global_step(tmp_path: Path) -> None:
    def bound() -> Any:
        optimizer: Any = _legacy.SGD(lambda: 0.1 / tf.cast(optimizer.iterations + 1, tf.float32))
        optimizer.iterations = tf.compat.v1.train.get_global_step()
        return optimizer

    estimator = tfe.DNNClassifier([4], columns(), str(tmp_path), optimizer=bound)
    estimator.train(lambda: input_fn(2))

    assert estimator.evaluate(lambda: input_fn(2))["global_step"] == 3


def test_an_optimizer_that_was_used_eagerly_keeps_its_settings(tmp_path: Path) -> None:
    optimizer = _legacy.SGD(0.25, momentum=0.5, clipvalue=1.0)
    optimizer.apply_gradients([(tf.constant(1.0), tf.Variable(1.0))])

    estimator = tfe.DNNClassifier([4], columns(), str(tmp_path), optimizer=optimizer)
    estimator.train(lambda: input_fn(2))

    assert tf.train.load_variable(str(tmp_path), "training/SGD/learning_rate") == 0.25
    assert tf.train.load_variable(str(tmp_path), "training/SGD/momentum") == 0.5
    assert tf.train.load_variable(str(tmp_path), "training/SGD/dnn/logits/bias/momentum").shape == (1,)
    assert optimizer.iterations == 1


def test_an_optimizer_that_scales_the_loss_trains(tmp_path: Path) -> None:
    optimizer = tf_keras.mixed_precision.LossScaleOptimizer(_legacy.SGD(0.1))
    estimator = tfe.DNNClassifier([4], columns(), str(tmp_path), optimizer=optimizer)

    estimator.train(lambda: input_fn(2))

    assert estimator.evaluate(lambda: input_fn(2))["global_step"] == 3


def weights_after(optimizer: Any, model_dir: Path, steps: int = 3) -> dict[str, Any]:
    """What a training of a logistic regression with an optimizer ends with, all variables by name."""
    config = tfe.RunConfig(tf_random_seed=1)
    estimator = tfe.DNNClassifier([], columns(), str(model_dir), optimizer=optimizer, config=config)
    estimator.train(lambda: input_fn(2), steps=steps)
    reader = tf.train.load_checkpoint(str(model_dir))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


KERAS_3: list[tuple[Any, Any]] = [
    (keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), _legacy.SGD(0.1, momentum=0.9, nesterov=True)),
    (keras.optimizers.Adam(0.1, beta_1=0.8, amsgrad=True), _legacy.Adam(0.1, beta_1=0.8, amsgrad=True)),
    (keras.optimizers.Adagrad(0.1, clipnorm=0.01), _legacy.Adagrad(0.1, clipnorm=0.01)),
    (keras.optimizers.RMSprop(0.1, momentum=0.1), _legacy.RMSprop(0.1, momentum=0.1)),
    (keras.optimizers.Ftrl(0.1, l1_regularization_strength=0.1), _legacy.Ftrl(0.1, l1_regularization_strength=0.1)),
    (keras.optimizers.Adadelta(0.1, clipvalue=0.01), _legacy.Adadelta(0.1, clipvalue=0.01)),
    (keras.optimizers.Adamax(0.1), _legacy.Adamax(0.1)),
    (keras.optimizers.Nadam(0.1), _legacy.Nadam(0.1)),
    (tf_keras.optimizers.Adam(0.1, global_clipnorm=0.1), _legacy.Adam(0.1, global_clipnorm=0.1)),
    (lambda: keras.optimizers.SGD(0.1), _legacy.SGD(0.1)),
    (lambda: tf_keras.optimizers.SGD(0.1), _legacy.SGD(0.1)),
    (
        keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)),
        _legacy.SGD(tf_keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)),
    ),
    (
        tf_keras.optimizers.SGD(tf_keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.2])),
        _legacy.SGD(tf_keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.2])),
    ),
]


@pytest.mark.parametrize(("given", "counterpart"), KERAS_3)
def test_a_keras_optimizer_trains_as_its_legacy_counterpart(tmp_path: Path, given: Any, counterpart: Any) -> None:
    expected = weights_after(counterpart, tmp_path / "counterpart")

    weights = weights_after(given, tmp_path / "given")

    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-6, err_msg=name)


HALVED = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """0.5, 0.25, 0.125 ..."""

    def __call__(self, step: Any) -> Any:
        return keras.ops.power(0.5, keras.ops.cast(step, "float32") + 1.0)


def test_a_schedule_derived_from_that_of_keras_3_is_followed(tmp_path: Path) -> None:
    expected = weights_after(
        _legacy.SGD(tf_keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)), tmp_path / "expected"
    )

    weights = weights_after(keras.optimizers.SGD(Halving()), tmp_path / "given")

    np.testing.assert_allclose(weights["dnn/logits/kernel"], expected["dnn/logits/kernel"], rtol=1e-6)


@pytest.mark.parametrize("cls", [keras.optimizers.SGD, tf_keras.optimizers.SGD])
def test_weight_decay_shrinks_a_variable_before_its_update(tmp_path: Path, cls: Any) -> None:
    initial = weights_after(_legacy.SGD(0.0), tmp_path / "initial", steps=1)
    plain = weights_after(_legacy.SGD(0.1), tmp_path / "plain", steps=1)
    optimizer = cls(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])

    weights = weights_after(optimizer, tmp_path / "decayed", steps=1)

    shrunk = 0.1 * 0.5 * initial["dnn/logits/kernel"]
    np.testing.assert_allclose(weights["dnn/logits/kernel"], plain["dnn/logits/kernel"] - shrunk, rtol=1e-5)
    np.testing.assert_array_equal(weights["dnn/logits/bias"], plain["dnn/logits/bias"])


@pytest.mark.parametrize("package", [keras, tf_keras])
def test_averages_take_the_place_of_weights_as_in_eager_code(tmp_path: Path, package: Any) -> None:
    def make() -> Any:
        return package.optimizers.SGD(0.25, momentum=0.5, use_ema=True, ema_momentum=0.6, ema_overwrite_frequency=2)

    optimizer, bias = make(), package.Variable([0.0]) if package is keras else tf.Variable([0.0])
    for _ in range(5):
        optimizer.apply_gradients([(2.0 * (tf.convert_to_tensor(bias) - 3.0), bias)])
    estimator = tfe.BaselineRegressor(str(tmp_path), optimizer=make())

    estimator.train(lambda: tf.data.Dataset.from_tensors(({"x": [1.0, 2.0]}, [2.0, 4.0])).repeat(5))

    assert estimator.get_variable_value("baseline/bias") == pytest.approx(tf.convert_to_tensor(bias).numpy())
    assert "training/SGD/baseline/bias/average" in estimator.get_variable_names()


@pytest.mark.parametrize("wrap", [lambda optimizer: optimizer, lambda optimizer: lambda: optimizer.__class__(HALVED)])
def test_a_legacy_optimizer_takes_a_schedule_of_keras_3(tmp_path: Path, wrap: Any) -> None:
    expected = tf_keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)

    weights = weights_after(wrap(_legacy.SGD(HALVED)), tmp_path / "given")

    for name, value in weights_after(_legacy.SGD(expected), tmp_path / "expected").items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-6, err_msg=name)


def test_adam_w_keeps_its_slots_under_its_own_name(tmp_path: Path) -> None:
    weights = weights_after(keras.optimizers.AdamW(0.1), tmp_path)

    assert "training/AdamW/dnn/logits/kernel/m" in weights


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (keras.optimizers.Lion(0.1), "Lion cannot be used in a graph: the counterparts"),
        (
            keras.optimizers.Adam(use_ema=True),
            "without ema_overwrite_frequency nothing uses the averages",
        ),
        (keras.optimizers.Adam(gradient_accumulation_steps=2), "no counterpart to its gradient_accumulation_steps"),
        (keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), "LossScaleOptimizer cannot be used"),
        (type("Own", (keras.optimizers.Adam,), {})(0.1), "Own cannot be used in a graph"),
        (lambda: keras.optimizers.Adam(loss_scale_factor=2.0), "no counterpart to its loss_scale_factor"),
    ],
)
def test_an_optimizer_without_a_counterpart_is_refused_by_name(tmp_path: Path, optimizer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weights_after(optimizer, tmp_path)


@pytest.mark.parametrize("cls", [keras.optimizers.SGD, tf_keras.optimizers.SGD, _legacy.SGD])
def test_an_estimator_keeps_the_settings_that_its_optimizer_had_when_it_was_made(tmp_path: Path, cls: Any) -> None:
    optimizer = cls(0.25)
    estimator = tfe.DNNClassifier([], columns(), str(tmp_path), optimizer=optimizer)
    optimizer.learning_rate = 0.5

    estimator.train(lambda: input_fn(2), steps=1)

    # The variable of the rate need not be within reach of a later training: a tf.distribute.Server changes the devices.
    assert estimator.get_variable_value("training/SGD/learning_rate") == 0.25
