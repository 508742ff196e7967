"""DNNClassifier: dropout, batch normalization, labels, weights and seeds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from runner import estimator as tfe
from tests.estimator.data import classifier, train_input_fn

_legacy = tf_keras.optimizers.legacy


def input_fn(n_classes: int) -> tf.data.Dataset:
    features = {"x": np.arange(32, dtype=np.float32).reshape(8, 4) / 32, "cat": np.array(["a", "b", "c", "z"] * 2)}
    return tf.data.Dataset.from_tensor_slices((features, np.arange(8) % n_classes)).repeat(3).batch(8)


def columns() -> list[Any]:
    return [tf.feature_column.numeric_column("x", shape=(4,))]


def test_batch_norm_moves_its_statistics(tmp_path: Path) -> None:
    estimator = tfe.DNNClassifier([4], columns(), str(tmp_path), n_classes=3, batch_norm=True)

    estimator.train(lambda: input_fn(3))

    mean = tf.train.load_variable(str(tmp_path), "dnn/hiddenlayer_0/batchnorm_0/moving_mean")
    assert np.abs(mean).max() > 0


def test_dropout_differs_between_steps_and_is_off_outside_of_training(tmp_path: Path) -> None:
    losses: list[float] = []

    class Losses(tf.compat.v1.train.SessionRunHook):
        def before_run(self, run_context: Any) -> Any:
            return tf.compat.v1.train.SessionRunArgs(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)[0])

        def after_run(self, run_context: Any, run_values: Any) -> None:
            losses.append(float(run_values.results))

    estimator = tfe.DNNClassifier(
        [32], columns(), str(tmp_path), n_classes=3, dropout=0.5, optimizer=lambda: _legacy.SGD(0.0)
    )
    estimator.train(lambda: input_fn(3), hooks=[Losses()])

    assert len(set(losses)) == 3
    first, second = (estimator.evaluate(lambda: input_fn(3))["loss"] for _ in range(2))
    assert first == second


def test_string_labels_and_weights_are_taken_from_their_columns(tmp_path: Path) -> None:
    def weighted() -> tf.data.Dataset:
        features = {"x": np.zeros((4, 4), np.float32), "w": np.array([1.0, 1.0, 0.0, 0.0], np.float32)}
        return tf.data.Dataset.from_tensor_slices((features, np.array(["no", "no", "yes", "yes"]))).batch(4)

    estimator = tfe.DNNClassifier([2], columns(), str(tmp_path), weight_column="w", label_vocabulary=["no", "yes"])
    estimator.train(lambda: weighted().repeat(20))

    metrics = estimator.evaluate(weighted)
    prediction = next(estimator.predict(weighted))
    assert metrics["label/mean"] == 0.0
    assert metrics["accuracy"] == 1.0
    assert prediction["classes"].tolist() == [b"no"]
    assert prediction["all_classes"].tolist() == [b"no", b"yes"]


def test_labels_out_of_range_are_an_error_of_the_step(tmp_path: Path) -> None:
    estimator = tfe.DNNClassifier([4], columns(), str(tmp_path), n_classes=3)

    with pytest.raises(tf.errors.InvalidArgumentError, match="Labels must be <= n_classes - 1: 2"):
        estimator.train(lambda: input_fn(4))


def with_labels(labels: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(({"x": np.zeros((len(labels), 4), np.float32)}, labels))


@pytest.mark.parametrize(("labels", "dtype"), [([1.9], "float32"), ([True], "bool"), (["a"], "string")])
def test_labels_that_are_no_class_ids_are_refused(tmp_path: Path, labels: list[Any], dtype: str) -> None:
    estimator = tfe.DNNClassifier([4], columns(), str(tmp_path), n_classes=3)

    with pytest.raises(ValueError, match=f"Labels dtype should be integer. Instead got <dtype: '{dtype}'>"):
        estimator.train(lambda: with_labels(labels))


def test_two_classes_take_labels_in_between_as_the_original(tmp_path: Path) -> None:
    estimator = tfe.DNNClassifier([4], columns(), str(tmp_path), optimizer=lambda: _legacy.SGD(0.0))
    estimator.train(lambda: with_labels([1.0]))

    half = estimator.evaluate(lambda: with_labels([0.25, 0.75]))
    flags = estimator.evaluate(lambda: with_labels([True, False]))

    assert half["label/mean"] == flags["label/mean"] == 0.5
    assert half["loss"] == pytest.approx(np.log(2.0))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Labels must be <= n_classes - 1: 1"):
        estimator.evaluate(lambda: with_labels([1.5]))
    with pytest.raises(ValueError, match=r"Instead got <dtype: 'string'>\. Pass a label_vocabulary"):
        estimator.evaluate(lambda: with_labels(["a"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_classes": 1}, "n_classes must be > 2: 1."),
        (
            {"n_classes": 3, "label_vocabulary": ["a"]},
            'does not have "n_classes" items',
        ),
        ({"loss_reduction": "mean"}, "Invalid loss_reduction: mean"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tfe.DNNClassifier([4], columns(), str(tmp_path), **arguments)


def test_a_seed_makes_a_training_repeatable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        classifier(tmp_path / name).train(train_input_fn, steps=5)

    kernels = [tf.train.load_variable(str(tmp_path / name), "dnn/hiddenlayer_0/kernel") for name in ("a", "b")]
    np.testing.assert_array_equal(*kernels)
