"""What a head makes of an optimizer, a train_op_fn and update ops, in the model_fn of one's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from runner import estimator as tfe
from tests.estimator.head_examples import F32

_v1 = tf.compat.v1
_legacy = tf_keras.optimizers.legacy


def input_fn() -> tf.data.Dataset:
    labels = {"a": np.array([2.0, 4.0], F32), "b": np.array([1.0, 1.0], F32)}
    return tf.data.Dataset.from_tensors(({"x": np.array([[1.0], [2.0]], F32)}, labels)).repeat(4)


def input_fn_of_a() -> tf.data.Dataset:
    return input_fn().map(lambda features, labels: (features, labels["a"]))


def model_fn_of(head: tfe.Head, **arguments: Callable[[], Any]) -> Callable[..., tfe.EstimatorSpec]:
    """One weight per logit, from 0; what the arguments make is given to create_estimator_spec."""

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        shape = [1, head.logits_dimension]
        weight = _v1.get_variable("weight", shape, initializer=_v1.zeros_initializer(), use_resource=True)
        made = {name: make() for name, make in arguments.items()}
        if "optimizer" in made:
            made["trainable_variables"] = [weight]
        return head.create_estimator_spec(features, mode, features["x"] @ weight, labels=labels, **made)

    return model_fn


def train(head: tfe.Head, model_dir: Path, **arguments: Callable[[], Any]) -> None:
    """Three steps."""
    config = tfe.RunConfig(save_summary_steps=1)
    estimator = tfe.Estimator(model_fn_of(head, **arguments), str(model_dir), config)
    estimator.train(input_fn if isinstance(head, tfe.MultiHead) else input_fn_of_a, steps=3)


def value(model_dir: Path, name: str) -> Any:
    return tf.train.load_variable(str(model_dir), name)


def tags(model_dir: Path) -> set[str]:
    events = next(model_dir.glob("events.*"))
    return {each.tag for event in _v1.train.summary_iterator(str(events)) for each in event.summary.value}


def test_an_optimizer_minimizes_the_loss_and_counts_the_steps(tmp_path: Path) -> None:
    train(tfe.RegressionHead(), tmp_path, optimizer=lambda: _legacy.SGD(0.1))

    # The slope towards 2 of the mean of (w - 2)^2 and (2w - 4)^2 is 5 (w - 2).
    assert value(tmp_path, "weight").item() == pytest.approx(2 - 2 * 0.5**3)
    assert value(tmp_path, "global_step") == 3
    assert value(tmp_path, "training/SGD/learning_rate") == pytest.approx(0.1)


def test_an_optimizer_of_v1_does_so_too(tmp_path: Path) -> None:
    train(tfe.RegressionHead(), tmp_path, optimizer=lambda: _v1.train.GradientDescentOptimizer(0.1))

    assert value(tmp_path, "weight").item() == pytest.approx(2 - 2 * 0.5**3)
    assert value(tmp_path, "global_step") == 3


def test_a_train_op_fn_gets_the_loss(tmp_path: Path) -> None:
    def train_op_fn(loss: Any) -> Any:
        optimizer = _v1.train.GradientDescentOptimizer(0.1)
        return optimizer.minimize(10 * loss, global_step=_v1.train.get_global_step())

    train(tfe.RegressionHead(), tmp_path, train_op_fn=lambda: train_op_fn)

    assert value(tmp_path, "weight").item() == pytest.approx(2 - 2 * (-4.0) ** 3)


def test_update_ops_run_with_every_step(tmp_path: Path) -> None:
    def update_ops() -> list[Any]:
        counter = _v1.get_variable("counter", [], initializer=_v1.zeros_initializer(), trainable=False)
        return [counter.assign_add(2.0)]

    train(tfe.RegressionHead(), tmp_path, optimizer=lambda: _legacy.SGD(0.1), update_ops=update_ops)

    assert value(tmp_path, "counter") == 6.0


def test_regularization_losses_are_minimized_and_summarized(tmp_path: Path) -> None:
    def regularization_losses() -> list[Any]:
        (weight,) = _v1.trainable_variables()
        return [tf.reduce_sum(5 * weight), tf.constant(1.0)]

    losses = {"optimizer": lambda: _legacy.SGD(0.1), "regularization_losses": regularization_losses}
    train(tfe.RegressionHead(name="a"), tmp_path, **losses)

    assert value(tmp_path, "weight").item() == pytest.approx(1 - 1 * 0.5**3)
    assert tags(tmp_path) >= {"loss", "loss/a", "regularization_loss/a"}


def test_a_head_without_a_name_has_one_summary_of_the_loss(tmp_path: Path) -> None:
    train(tfe.RegressionHead(), tmp_path, optimizer=lambda: _legacy.SGD(0.1))

    assert {tag for tag in tags(tmp_path) if tag.startswith("loss")} == {"loss"}


def test_a_multi_head_trains_all_its_heads_with_the_names_of_the_original(tmp_path: Path) -> None:
    head = tfe.MultiHead([tfe.RegressionHead(name="a"), tfe.RegressionHead(name="b")], [1.0, 0.5])

    train(head, tmp_path, optimizer=lambda: _legacy.Adagrad(0.1))

    assert {tag for tag in tags(tmp_path) if tag.startswith("loss")} == {"loss", "loss/a", "loss/b"}
    # As in the original, the scopes of two heads that do not train come first.
    assert value(tmp_path, "training_2/Adagrad/weight/accumulator").shape == (1, 2)
    first, second = value(tmp_path, "weight")[0]
    assert first > second > 0
    metrics = tfe.Estimator(model_fn_of(head), str(tmp_path)).evaluate(input_fn)
    assert metrics["loss"] == pytest.approx(metrics["loss/a"] + 0.5 * metrics["loss/b"])


def test_a_head_evaluates_and_predicts_in_an_estimator(tmp_path: Path) -> None:
    head = tfe.MultiHead([tfe.PoissonRegressionHead(name="a"), tfe.LogisticRegressionHead(name="b")])
    train(head, tmp_path, optimizer=lambda: _legacy.SGD(0.0))
    estimator = tfe.Estimator(model_fn_of(head), str(tmp_path))

    metrics = estimator.evaluate(input_fn)
    prediction = next(estimator.predict(input_fn, predict_keys=[("b", "predictions")]))

    assert metrics["label/mean/a"] == 3.0
    assert metrics["prediction/mean/a"] == 1.0
    assert metrics["average_loss/b"] == pytest.approx(np.log(2))
    assert {key: each.tolist() for key, each in prediction.items()} == {("b", "predictions"): [0.5]}


class Absolute(tfe.Head):
    """A user's head: the absolute error."""

    name = None
    logits_dimension = 1
    loss_reduction = "sum_over_batch_size"

    def loss(
        self, labels: Any, logits: Any, features: Any = None, mode: Any = None, regularization_losses: Any = None
    ) -> Any:
        return tf.reduce_mean(tf.abs(labels[:, tf.newaxis] - logits))

    def predictions(self, logits: Any, keys: Any = None) -> dict[Any, Any]:
        return {"y": logits}

    def metrics(self, regularization_losses: Any = None) -> dict[str, Any]:
        return {"error": tf_keras.metrics.Mean(name="error")}

    def update_metrics(
        self,
        eval_metrics: dict[str, Any],
        features: Any,
        logits: Any,
        labels: Any,
        mode: Any = None,
        regularization_losses: Any = None,
    ) -> dict[str, Any]:
        eval_metrics["error"].update_state(self.loss(labels, logits))
        return eval_metrics


class AbsoluteWithSpec(Absolute):
    def create_estimator_spec(  # type: ignore[override]
        self, features: Any, mode: str, logits: Any, labels: Any = None, train_op_fn: Any = None, **_: Any
    ) -> tfe.EstimatorSpec:
        predictions = self.predictions(logits)
        if mode == tfe.ModeKeys.PREDICT:
            return tfe.EstimatorSpec(mode, predictions=predictions)
        loss = self.loss(labels, logits)
        if mode == tfe.ModeKeys.EVAL:
            metrics = self.update_metrics(self.metrics(), features, logits, labels)
            return tfe.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
        return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op_fn(loss))


def test_a_head_of_the_users_own_is_a_head(tmp_path: Path) -> None:
    def train_op_fn(loss: Any) -> Any:
        return _v1.train.GradientDescentOptimizer(0.1).minimize(loss, global_step=_v1.train.get_global_step())

    train(AbsoluteWithSpec(), tmp_path, train_op_fn=lambda: train_op_fn)

    metrics = tfe.Estimator(model_fn_of(AbsoluteWithSpec()), str(tmp_path)).evaluate(input_fn_of_a)
    assert value(tmp_path, "weight").item() == pytest.approx(0.45)
    assert metrics["error"] == pytest.approx(1.5 * (2 - 0.45))


def test_a_head_must_say_how_its_spec_is_made() -> None:
    with pytest.raises(NotImplementedError, match=r"Subclasses of Head must implement `create_estimator_spec\(\)`"):
        Absolute().create_estimator_spec({}, "eval", tf.constant([[1.0]]))


def test_a_head_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        tfe.Head()  # type: ignore[abstract]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "train_op_fn and optimizer cannot both be None."),
        ({"optimizer": 3, "train_op_fn": lambda loss: loss}, "train_op_fn and optimizer cannot both be set."),
        ({"optimizer": 3}, "not a tf.keras.optimizers.Optimizer instance. Received optimizer of type <class 'int'>"),
        ({"optimizer": tf.keras.optimizers.Adam(0.1)}, "Use one of|use one of tf_keras.optimizers.legacy"),
        ({"optimizer": _legacy.SGD(0.1)}, "trainable_variables cannot be None. Given None"),
        (
            {"optimizer": _legacy.SGD(0.1), "trainable_variables": 3},
            "trainable_variables should be a list or a tuple. Given type: <class 'int'>.",
        ),
        ({"update_ops": 3}, "update_ops should be a list or a tuple. Given type: <class 'int'>."),
    ],
)
def test_arguments_that_make_no_training_op_are_refused(arguments: dict[str, Any], message: str) -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        tfe.RegressionHead().create_estimator_spec({}, "train", tf.constant([[1.0]]), [[1.0]], **arguments)


class Median(AbsoluteWithSpec):
    """A user's head that trains with the optimizer it is given."""

    def create_estimator_spec(  # type: ignore[override]
        self,
        features: Any,
        mode: str,
        logits: Any,
        labels: Any = None,
        optimizer: Any = None,
        trainable_variables: Any = None,
        **_: Any,
    ) -> tfe.EstimatorSpec:
        def train_op_fn(loss: Any) -> Any:
            return optimizer.get_updates(loss, trainable_variables)[0]

        return super().create_estimator_spec(features, mode, logits, labels=labels, train_op_fn=train_op_fn)


def test_a_canned_estimator_takes_a_head_of_the_users_own(tmp_path: Path) -> None:
    columns = [tf.feature_column.numeric_column("x")]
    estimator = tfe.LinearEstimator(Median(), columns, str(tmp_path), optimizer=_legacy.SGD(0.1))

    estimator.train(input_fn_of_a, steps=3)

    # As in the original, the optimizer counts the steps without being told to.
    assert value(tmp_path, "global_step") == 3
    assert value(tmp_path, "linear/linear_model/x/weights").item() == pytest.approx(0.45)
    assert estimator.evaluate(input_fn_of_a)["error"] < 3.0
    assert next(estimator.predict(input_fn_of_a))["y"].item() == pytest.approx(0.75)
