"""Feature columns of every kind, in networks and linear models; what is no column for them is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.oracle.checkpoint import drop_tensors

fc = tf.feature_column


def input_fn() -> tf.data.Dataset:
    features = {
        "x": np.array([[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0], [0.1, 1.0]], np.float32),
        "age": np.array([5.0, 15.0, 25.0, 35.0], np.float32),
        "color": tf.sparse.from_dense([["r", "g"], ["g", ""], ["b", ""], ["r", "b"]]),
        "amount": tf.sparse.from_dense(np.array([[1.0, 2.0], [0.5, 0.0], [3.0, 0.0], [1.0, 1.0]], np.float32)),
        "shape": np.array(["round", "flat", "flat", "none"]),
        "id": np.array([0, 1, 2, 1]),
    }
    return tf.data.Dataset.from_tensors((features, [1, 0, 1, 0])).repeat(2)


def categorical_columns(directory: Path) -> dict[str, Any]:
    """One of each kind, by the name of its variable scope."""
    vocabulary = directory / "shapes.txt"
    vocabulary.write_text("round\nflat\n")
    color = fc.categorical_column_with_vocabulary_list("color", ["r", "g", "b"])
    age = fc.bucketized_column(fc.numeric_column("age"), [10.0, 20.0])
    return {
        "age_bucketized": age,
        "age_bucketized_X_shape": fc.crossed_column([age, "shape"], 7),
        "color": color,
        "color_weighted_by_amount": fc.weighted_categorical_column(
            fc.categorical_column_with_hash_bucket("color", 20), "amount"
        ),
        "id": fc.categorical_column_with_identity("id", 3),
        "shape": fc.categorical_column_with_vocabulary_file("shape", str(vocabulary), num_oov_buckets=1),
    }


def variables(estimator: tfe.Estimator) -> dict[str, Any]:
    return {
        name: estimator.get_variable_value(name)
        for name in estimator.get_variable_names()
        if not name.startswith("training/")
    }


def test_a_linear_model_takes_columns_of_every_kind(tmp_path: Path) -> None:
    categorical = categorical_columns(tmp_path)
    shape = fc.categorical_column_with_hash_bucket("shape", 4)
    dense = [fc.numeric_column("x", shape=2), fc.embedding_column(shape, 2), fc.indicator_column(shape)]
    estimator = tfe.LinearClassifier([*categorical.values(), *dense], str(tmp_path / "model"))

    estimator.train(input_fn)
    metrics = estimator.evaluate(input_fn)

    shapes = {name: value.shape for name, value in variables(estimator).items() if name.startswith("linear/")}
    assert shapes == {
        "linear/linear_model/age_bucketized/weights": (3, 1),
        "linear/linear_model/age_bucketized_X_shape/weights": (7, 1),
        "linear/linear_model/bias_weights": (1,),
        "linear/linear_model/color/weights": (3, 1),
        "linear/linear_model/color_weighted_by_amount/weights": (20, 1),
        "linear/linear_model/id/weights": (3, 1),
        "linear/linear_model/shape/weights": (3, 1),
        "linear/linear_model/shape_embedding/embedding_weights": (4, 2),
        "linear/linear_model/shape_embedding/weights": (2, 1),
        "linear/linear_model/shape_indicator/weights": (4, 1),
        "linear/linear_model/x/weights": (2, 1),
    }
    unmoved = [name for name, value in variables(estimator).items() if not np.any(value)]
    assert unmoved in ([], ["linear/linear_model/bias_weights"])  # the bias may sum up to nothing
    assert metrics["loss"] < np.log(2.0)


def test_a_network_takes_dense_columns_of_every_kind(tmp_path: Path) -> None:
    categorical = categorical_columns(tmp_path)
    columns = [
        fc.numeric_column("x", shape=2),
        categorical["age_bucketized"],
        fc.indicator_column(categorical["color"]),
        fc.embedding_column(categorical["color_weighted_by_amount"], 2, combiner="sum"),
        fc.embedding_column(categorical["shape"], 3),
        fc.embedding_column(categorical["age_bucketized_X_shape"], 1),
        fc.indicator_column(categorical["id"]),
    ]
    estimator = tfe.DNNClassifier([4], columns, str(tmp_path / "model"))

    estimator.train(input_fn)

    layer = "dnn/input_from_feature_columns/input_layer"
    assert {name: value.shape for name, value in variables(estimator).items() if "kernel" in name or layer in name} == {
        f"{layer}/age_bucketized_X_shape_embedding/embedding_weights": (7, 1),
        f"{layer}/color_weighted_by_amount_embedding/embedding_weights": (20, 2),
        f"{layer}/shape_embedding/embedding_weights": (3, 3),
        "dnn/hiddenlayer_0/kernel": (2 + 3 + 3 + 2 + 3 + 1 + 3, 4),
        "dnn/logits/kernel": (4, 1),
    }


@pytest.fixture
def shared() -> list[Any]:
    """Columns that share a table, which can be made in a graph only."""
    color = fc.categorical_column_with_vocabulary_list("color", ["r", "g", "b"])
    best = fc.categorical_column_with_vocabulary_list("shape", ["r", "g", "b"], default_value=0)
    with tf.Graph().as_default():
        columns: list[Any] = fc.shared_embeddings([color, best], 2)
    return columns


def test_a_shared_embedding_is_trained_by_the_network_and_only_once(tmp_path: Path, shared: list[Any]) -> None:
    estimator = tfe.DNNLinearCombinedClassifier(
        str(tmp_path), shared, dnn_feature_columns=shared, dnn_optimizer="SGD", dnn_hidden_units=[4]
    )

    estimator.train(input_fn, steps=1)
    first = variables(estimator)["color_shape_shared_embedding"]
    estimator.train(input_fn, steps=1)

    assert np.any(variables(estimator)["color_shape_shared_embedding"] != first)
    assert not [name for name in estimator.get_variable_names() if "Ftrl/color_shape_shared_embedding" in name]


def test_a_shared_embedding_is_trained_by_a_linear_model(tmp_path: Path, shared: list[Any]) -> None:
    estimator = tfe.LinearClassifier(shared, str(tmp_path))

    estimator.train(input_fn)

    assert "training/Ftrl/color_shape_shared_embedding/linear" in estimator.get_variable_names()
    assert variables(estimator)["linear/linear_model/color_shared_embedding/weights"].shape == (2, 1)


def test_a_shared_embedding_that_2_15_never_trained_is_trained_from_there_on(
    tmp_path: Path, shared: list[Any], info_log: pytest.LogCaptureFixture
) -> None:
    estimator = tfe.DNNClassifier([4], shared, str(tmp_path))
    estimator.train(input_fn, steps=1)
    drop_tensors(tmp_path, "training/.*_shared_embedding/.*")  # which are not in a checkpoint of 2.15
    before = variables(estimator)

    estimator.train(input_fn, steps=1)

    after = variables(estimator)
    assert np.any(after["color_shape_shared_embedding"] != before["color_shape_shared_embedding"])
    assert "training/Adagrad/color_shape_shared_embedding/accumulator" in estimator.get_variable_names()
    assert "with the initial values of: training/Adagrad/color_shape_shared_embedding/accumulator." in info_log.text


def test_a_table_that_is_not_trainable_stays_as_it_is(tmp_path: Path) -> None:
    shape = fc.categorical_column_with_hash_bucket("shape", 4)
    column = fc.embedding_column(shape, 2, initializer=tf.compat.v1.ones_initializer(), trainable=False)

    for estimator in (
        tfe.LinearClassifier([column], str(tmp_path / "linear")),
        tfe.DNNClassifier([2], [column], str(tmp_path / "dnn")),
    ):
        estimator.train(input_fn)

        (table,) = (value for name, value in variables(estimator).items() if name.endswith("embedding_weights"))
        assert np.all(table == 1.0)


def test_a_linear_model_sums_the_steps_of_a_sequence_but_a_network_refuses_them(tmp_path: Path) -> None:
    sequence = fc.sequence_categorical_column_with_identity("id", 3)
    linear = tfe.LinearClassifier([sequence], str(tmp_path / "linear"))

    linear.train(input_fn)

    assert variables(linear)["linear/linear_model/id/weights"].shape == (3, 1)
    network = tfe.DNNClassifier([2], [fc.embedding_column(sequence, 2)], str(tmp_path / "dnn"))
    with pytest.raises(ValueError, match="categorical_column must not be of type SequenceCategoricalColumn"):
        network.train(input_fn)


@pytest.mark.parametrize("name", ["_private", "petal length (cm)", "größe"])
def test_a_linear_model_takes_a_feature_whose_name_is_none_for_a_variable(tmp_path: Path, name: str) -> None:
    estimator = tfe.LinearClassifier([fc.numeric_column(name)], str(tmp_path))

    estimator.train(lambda: tf.data.Dataset.from_tensors(({name: [0.0, 2.0]}, [0, 1])))

    scope = re.sub("[^a-z]", "_", name)
    assert f"linear/linear_model/{scope}/weights" in estimator.get_variable_names()


def test_columns_may_come_from_an_iterator(tmp_path: Path) -> None:
    estimator = tfe.LinearClassifier(iter([fc.numeric_column("age")]), str(tmp_path))

    estimator.train(input_fn)

    assert estimator.evaluate(input_fn)["global_step"] == 2


COLOR = fc.categorical_column_with_vocabulary_list("color", ["r", "g", "b"])
AGE = fc.numeric_column("age")
with tf.Graph().as_default():
    V1_COLUMNS = tf.compat.v1.feature_column.shared_embedding_columns(
        [COLOR, fc.categorical_column_with_vocabulary_list("shape", ["r", "g", "b"])], 2
    )


@pytest.mark.parametrize(
    ("columns", "of_dnn", "of_linear"),
    [
        ([COLOR], "You can wrap a categorical column with an embedding_column or indicator_column", None),
        ([fc.sequence_numeric_column("age")], "SequenceNumericColumn", "must be either a DenseColumn or Categorical"),
        ([], "feature_columns must not be empty", "feature_columns must not be empty"),
        (None, "feature_columns must not be empty", "feature_columns must not be empty"),
        ([AGE, AGE], "Duplicate feature column name found", "Duplicate feature column name found"),
        (["age"], "Received a feature column from TensorFlow v1", "Received a feature column from TensorFlow v1"),
        (V1_COLUMNS, "Received a feature column from TensorFlow v1", "Received a feature column from TensorFlow v1"),
        (
            [fc.numeric_column("nope")],
            "Feature nope is not in features dictionary.",
            "Feature nope is not in features dictionary.",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused(tmp_path: Path, columns: Any, of_dnn: str, of_linear: str | None) -> None:
    with pytest.raises(ValueError, match=of_dnn):
        tfe.DNNClassifier([2], columns, str(tmp_path)).train(input_fn)
    if of_linear is not None:
        with pytest.raises(ValueError, match=of_linear):
            tfe.LinearClassifier(columns, str(tmp_path)).train(input_fn)
