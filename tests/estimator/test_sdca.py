"""LinearSDCA: the optimum that it converges to, its state, and where it cannot be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator.canned.linear_model import LinearModel

fc = tf.feature_column
COLUMNS = [
    fc.numeric_column("x", shape=2),
    fc.categorical_column_with_vocabulary_list("category", ["a", "b", "c"]),
]
X = np.array([[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0], [0.0, 1.0]])
# The second example has one category twice, the last one a category that is not in the vocabulary.
CATEGORIES = np.array([[1, 1, 0], [0, 0, 2], [0, 1, 0], [1, 0, 0]])
INPUTS = np.hstack([CATEGORIES, X, np.ones([4, 1])])
"""As the solver sees them: the columns in the order of their names, and the bias."""


def input_fn(labels: list[float]) -> tf.data.Dataset:
    features = {
        "x": X.astype(np.float32),
        "category": tf.sparse.from_dense([["a", "b"], ["c", "c"], ["b", ""], ["a", "z"]]),
        "id": ["one", "two", "three", "four"],
        "weight": np.array([1.0, 2.0, 0.5, 1.0], np.float32),
    }
    return tf.data.Dataset.from_tensors((features, labels)).repeat()


def weights_of(estimator: tfe.Estimator, suffix: str = "") -> Any:
    """The weights in the order of INPUTS."""
    names = ("category/weights", "x/weights", "bias_weights")
    return np.concatenate([estimator.get_variable_value(f"linear/linear_model/{n}{suffix}").ravel() for n in names])


def test_a_regression_ends_at_the_ridge_of_its_labels(tmp_path: Path) -> None:
    labels = [0.5, -1.0, 2.0, 0.0]
    sdca = tfe.experimental.LinearSDCA("id", symmetric_l2_regularization=2.0, num_table_shards=2)
    estimator = tfe.LinearRegressor(COLUMNS, str(tmp_path), optimizer=sdca)

    estimator.train(lambda: input_fn(labels), steps=30)
    estimator.train(lambda: input_fn(labels), steps=270)  # goes on from the states of the examples

    ridge = np.linalg.solve(INPUTS.T @ INPUTS + 2.0 * np.eye(6), INPUTS.T @ labels)
    np.testing.assert_allclose(weights_of(estimator), ridge, atol=1e-4)
    assert estimator.get_variable_value("global_step") == 300
    keys = [name for name in estimator.get_variable_names() if name.endswith("-keys")]
    assert keys == ["ShardedMutableHashTable-1-of-2-keys", "ShardedMutableHashTable-2-of-2-keys"]


def test_a_classifier_ends_where_the_gradient_of_its_loss_is_zero(tmp_path: Path) -> None:
    sdca = tfe.experimental.LinearSDCA("id", symmetric_l2_regularization=1.5)
    estimator = tfe.LinearClassifier(
        COLUMNS, str(tmp_path), label_vocabulary=["no", "yes"], weight_column="weight", optimizer=sdca
    )

    estimator.train(lambda: input_fn(["yes", "no", "yes", "no"]), steps=300)  # type: ignore[list-item]

    weights = weights_of(estimator)
    residuals = 1 / (1 + np.exp(-INPUTS @ weights)) - [1, 0, 1, 0]
    gradient = INPUTS.T @ (np.array([1.0, 2.0, 0.5, 1.0]) * residuals) + 1.5 * weights
    np.testing.assert_allclose(gradient, 0.0, atol=1e-3)


def test_l1_brings_weights_nearer_to_zero_and_some_to_it(tmp_path: Path) -> None:
    sdca = tfe.experimental.LinearSDCA("id", symmetric_l1_regularization=1.0, symmetric_l2_regularization=2.0)
    estimator = tfe.LinearRegressor(COLUMNS, str(tmp_path), optimizer=sdca)

    estimator.train(lambda: input_fn([0.5, -1.0, 2.0, 0.0]), steps=20)

    unshrunk, weights = weights_of(estimator, "_unshrunk"), weights_of(estimator)
    np.testing.assert_allclose(weights, np.sign(unshrunk) * np.maximum(np.abs(unshrunk) - 0.5, 0.0), atol=1e-6)
    assert 0 < np.count_nonzero(weights) < 6


def test_a_model_is_evaluated_and_served_without_ids(tmp_path: Path) -> None:
    estimator = tfe.LinearRegressor(COLUMNS, str(tmp_path), optimizer=tfe.experimental.LinearSDCA("id"))
    estimator.train(lambda: input_fn([0.5, -1.0, 2.0, 0.0]), steps=1)

    def without_ids() -> tf.data.Dataset:
        return input_fn([0.5, -1.0, 2.0, 0.0]).map(
            lambda features, labels: ({key: features[key] for key in ("x", "category")}, labels)
        )

    assert estimator.evaluate(without_ids, steps=1)["global_step"] == 1


def test_training_needs_the_ids(tmp_path: Path) -> None:
    estimator = tfe.LinearRegressor(COLUMNS, str(tmp_path), optimizer=tfe.experimental.LinearSDCA("nope"))

    with pytest.raises(ValueError, match=r"Feature nope is not in features dictionary\."):
        estimator.train(lambda: input_fn([0.5, -1.0, 2.0, 0.0]), steps=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda sdca: tfe.LinearClassifier(COLUMNS, n_classes=3, optimizer=sdca), "cannot be used in a multi-class"),
        (lambda sdca: tfe.LinearRegressor(COLUMNS, label_dimension=2, optimizer=sdca), "one-dimensional label"),
        (
            lambda sdca: tfe.LinearClassifier(COLUMNS, optimizer=sdca, sparse_combiner="mean"),
            'sparse_combiner must be "sum" when optimizer is a LinearSDCA object.',
        ),
        (
            lambda sdca: tfe.LinearEstimator(tfe.PoissonRegressionHead(), COLUMNS, optimizer=sdca),
            "Unsupported head type: .*PoissonRegressionHead",
        ),
        (lambda _: tfe.experimental.LinearSDCA("id", symmetric_l2_regularization=0.0), "should be positive"),
        (lambda _: tfe.experimental.LinearSDCA("id", symmetric_l1_regularization=-1.0), "should be non-negative"),
    ],
)
def test_what_it_cannot_train_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(tfe.experimental.LinearSDCA("id"))


def test_a_network_does_not_take_it(tmp_path: Path) -> None:
    estimator = tfe.DNNClassifier([2], COLUMNS[:1], str(tmp_path), optimizer=tfe.experimental.LinearSDCA("id"))

    with pytest.raises(ValueError, match=r"The given object is not a tf.keras.optimizers.Optimizer instance"):
        estimator.train(lambda: input_fn([1.0, 0.0, 1.0, 0.0]), steps=1)


def test_a_step_of_ones_own_updates_the_weights_of_ones_own_model() -> None:
    columns = [fc.numeric_column("x")]
    sdca = tfe.experimental.LinearSDCA("id", symmetric_l2_regularization=2.0)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        features = {"x": tf.constant([[1.0], [2.0]]), "id": tf.constant(["a", "b"]), "w": tf.constant([1.0, 3.0])}
        model = LinearModel(columns, 1, "sum")
        solver, step = sdca.get_train_step(
            model, "w", "squared_loss", columns, features, tf.constant([2.0, 1.0]), model.bias, None
        )
        update = solver.update_weights(step)
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(200):
            session.run(update)
        weights = np.concatenate([session.run(model.bias), session.run(model.weights[0])[0]])

    inputs, examples = np.array([[1.0, 1.0], [1.0, 2.0]]), np.diag([1.0, 3.0])
    ridge = np.linalg.solve(inputs.T @ examples @ inputs + 2.0 * np.eye(2), inputs.T @ examples @ [2.0, 1.0])
    np.testing.assert_allclose(weights, ridge, atol=1e-4)
