"""Baseline estimators: a bias that learns the labels alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from runner import estimator as tfe

_legacy = tf_keras.optimizers.legacy


def input_fn(labels: Any) -> tf.data.Dataset:
    features = {
        "x": tf.sparse.from_dense([[1], [2], [3], [4]]),
        "w": np.array([1.0, 0.0, 2.0, 1.0], np.float32),
    }
    return tf.data.Dataset.from_tensors((features, labels))


def test_a_regressor_learns_the_mean_label(tmp_path: Path) -> None:
    labels = [[1.0, 0.0], [2.0, 4.0], [3.0, 8.0], [6.0, -4.0]]
    # One step of half the gradient of the squares ends at their minimum, since the mean is over both dimensions.
    estimator = tfe.BaselineRegressor(str(tmp_path), label_dimension=2, optimizer=_legacy.SGD(1.0))

    estimator.train(lambda: input_fn(labels))

    assert estimator.get_variable_value("baseline/bias") == pytest.approx([3.0, 2.0])
    predictions = [each["predictions"] for each in estimator.predict(lambda: input_fn(labels))]
    np.testing.assert_allclose(predictions, [[3.0, 2.0]] * 4)


def test_a_classifier_learns_the_share_of_the_classes(tmp_path: Path) -> None:
    estimator = tfe.BaselineClassifier(str(tmp_path), n_classes=3)

    estimator.train(lambda: input_fn([1, 1, 1, 2]).repeat(300))

    metrics = estimator.evaluate(lambda: input_fn([1, 1, 1, 2]))
    assert metrics["accuracy"] == 0.75
    probabilities = next(estimator.predict(lambda: input_fn([1, 1, 1, 2])))["probabilities"]
    np.testing.assert_allclose(probabilities, [0.0, 0.75, 0.25], atol=0.03)


def test_the_first_step_of_a_classifier_is_that_of_softmax(tmp_path: Path) -> None:
    estimator = tfe.BaselineClassifier(str(tmp_path), n_classes=3, optimizer=_legacy.SGD(1.0))

    estimator.train(lambda: input_fn([1, 1, 1, 2]))

    expected = np.array([0, 0.75, 0.25]) - 1 / 3
    np.testing.assert_allclose(estimator.get_variable_value("baseline/bias"), expected, rtol=1e-5)


@pytest.mark.parametrize("weight_column", ["w", tf.feature_column.numeric_column("w")])
def test_weights_count_and_a_model_is_served_without_them(tmp_path: Path, weight_column: Any) -> None:
    estimator = tfe.BaselineRegressor(str(tmp_path), weight_column=weight_column, optimizer=_legacy.SGD(0.5))

    estimator.train(lambda: input_fn([1.0, 100.0, 3.0, 5.0]))

    # The sum of the weighted labels over the number of examples, not over the sum of the weights.
    assert estimator.get_variable_value("baseline/bias") == pytest.approx([3.0])
    alone = next(estimator.predict(lambda: tf.data.Dataset.from_tensors({"x": [1]})))
    assert alone["predictions"] == pytest.approx([3.0])


def test_an_estimator_of_ones_own_head_counts_words(tmp_path: Path) -> None:
    estimator = tfe.BaselineEstimator(tfe.PoissonRegressionHead(), str(tmp_path), optimizer=_legacy.SGD(0.5))

    estimator.train(lambda: input_fn([1.0, 2.0, 3.0, 2.0]))

    # The gradient of exp(b) - y * b at 0 is 1 - mean(y).
    assert estimator.get_variable_value("baseline/bias") == pytest.approx([0.5])


def test_no_features_tell_no_batch_size(tmp_path: Path) -> None:
    estimator = tfe.BaselineRegressor(str(tmp_path), weight_column="w")

    with pytest.raises(ValueError, match=r"no feature to tell the size of a batch. Given the features: \['w'\]"):
        estimator.train(lambda: tf.data.Dataset.from_tensors(({"w": [1.0]}, [1.0])))


def test_features_of_unequal_batch_sizes_are_an_error_of_the_step(tmp_path: Path) -> None:
    estimator = tfe.BaselineRegressor(str(tmp_path))

    with pytest.raises(tf.errors.InvalidArgumentError, match="features differ in their batch size"):
        estimator.train(
            lambda: tf.data.Dataset.from_tensors(({"a": [1.0], "b": [1.0, 2.0]}, [1.0])).map(
                lambda features, label: ({key: tf.boolean_mask(x, x > 0) for key, x in features.items()}, label)
            )
        )
