"""The classes of tf.compat.v1.estimator: the arguments of TensorFlow 1, and what they mean."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from runner import estimator as tfe
from runner.estimator import v1
from tests.estimator.data import FEATURES

SCHEMA: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "schema.json").read_text(encoding="utf-8")
)
Reduction = tf.compat.v1.losses.Reduction


def numeric() -> list[Any]:
    return [tf.feature_column.numeric_column(name) for name in FEATURES]


def category() -> Any:
    return tf.feature_column.categorical_column_with_vocabulary_list("cat", ["a", "b", "c"])


DNN: dict[str, Any] = {
    "hidden_units": [8, 4],
    "feature_columns": [*numeric(), tf.feature_column.embedding_column(category(), 2)],
}
LINEAR: dict[str, Any] = {"feature_columns": [*numeric(), category()]}
COMBINED: dict[str, Any] = {
    "linear_feature_columns": [category()],
    "dnn_feature_columns": numeric(),
    "dnn_hidden_units": [8, 4],
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "v1.DNNClassifier_3": {**DNN, "n_classes": 3},
    "v1.DNNRegressor": DNN,
    "v1.DNNEstimator_v1multiclass": {**DNN, "feature_columns": numeric(), "head": tfe.MultiClassHead(3)},
    "v1.LinearClassifier_bin": LINEAR,
    "v1.LinearRegressor": LINEAR,
    "v1.LinearEstimator_v1reg": {"feature_columns": numeric(), "head": tfe.RegressionHead()},
    "v1.DNNLinearCombinedClassifier": {**COMBINED, "n_classes": 3},
    "v1.DNNLinearCombinedRegressor": {**COMBINED, "dnn_feature_columns": DNN["feature_columns"]},
    "v1.DNNLinearCombinedEstimator": {**COMBINED, "head": tfe.RegressionHead()},
    "v1.BaselineClassifier_bin": {},
    "v1.BaselineRegressor": {},
    "v1.BaselineEstimator_v1reg": {"head": tfe.RegressionHead()},
}
"""What an entry of the schema was recorded with, one for each class."""


def input_fn(entry: str) -> tf.data.Dataset:
    values = np.arange(32, dtype=np.float32).reshape(8, 4) / 32
    features = {name: values[:, index] for index, name in enumerate(FEATURES)}
    features["cat"] = np.array(["a", "b", "c", "z"] * 2)
    classes = np.arange(8) % (2 if entry.endswith("_bin") else 3)
    is_classifier = "Classifier" in entry or entry.endswith("multiclass")
    labels = classes if is_classifier else classes.astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((features, labels)).batch(8)


@pytest.mark.parametrize("entry", ARGUMENTS)
def test_metrics_predictions_and_summaries_are_those_of_the_original(tmp_path: Path, entry: str) -> None:
    family, expected = entry.removeprefix("v1.").partition("_")[0], SCHEMA[entry]
    estimator = getattr(v1, family)(model_dir=str(tmp_path), **ARGUMENTS[entry])

    estimator.train(lambda: input_fn(entry))
    metrics = estimator.evaluate(lambda: input_fn(entry))
    prediction = next(estimator.predict(lambda: input_fn(entry)))

    assert isinstance(estimator, v1.Estimator)
    assert sorted(metrics) == expected["eval_keys"]
    assert {name: [value.dtype.name, list(value.shape)] for name, value in prediction.items()} == expected["predict"]
    # Variables have the names of the original; slots those of today's classes.
    slots = ("/Adagrad", "/Ftrl", "/Ftrl_1")
    names = {name for name, _, _ in expected["vars"] if not name.endswith(slots)}
    assert names <= {name for name, _ in tf.train.list_variables(str(tmp_path))}


def test_each_class_has_an_entry() -> None:
    classes = {name for name in v1.__all__ if name.startswith(("DNN", "Linear", "Baseline"))}

    assert {entry.removeprefix("v1.").partition("_")[0] for entry in ARGUMENTS} == classes


def weighted_input_fn() -> tf.data.Dataset:
    """Losses 1, 4, 9 and 16 for a prediction of 0, and weights 0, 1, 2 and 3."""
    features = {"w": np.arange(4, dtype=np.float32), "x": np.zeros(4, np.float32)}
    return tf.data.Dataset.from_tensors((features, np.arange(1, 5, dtype=np.float32)))


@pytest.mark.parametrize(
    ("arguments", "loss"),
    [
        ({}, 70.0),
        ({"loss_reduction": Reduction.SUM}, 70.0),
        ({"loss_reduction": Reduction.SUM_OVER_BATCH_SIZE}, 70.0 / 4),
        ({"loss_reduction": Reduction.MEAN}, 70.0 / 6),
        ({"loss_reduction": Reduction.SUM_BY_NONZERO_WEIGHTS}, 70.0 / 3),
        ({"loss_reduction": Reduction.MEAN, "weight_column": None}, 30.0 / 4),
    ],
)
def test_a_reduction_of_tensorflow_1_means_what_it_did(tmp_path: Path, arguments: dict[str, Any], loss: float) -> None:
    estimator = v1.BaselineRegressor(model_dir=str(tmp_path), **{"weight_column": "w", **arguments})

    metrics = estimator.evaluate(weighted_input_fn)

    assert metrics["loss"] == pytest.approx(loss)


@pytest.mark.parametrize("loss_reduction", [Reduction.NONE, "sum"])
def test_other_reductions_are_refused(loss_reduction: str) -> None:
    with pytest.raises(ValueError, match=f"Invalid loss_reduction: {loss_reduction}"):
        v1.BaselineClassifier(loss_reduction=loss_reduction)


@pytest.mark.parametrize(
    ("family", "argument"),
    [
        ("DNNClassifier", "input_layer_partitioner"),
        ("DNNLinearCombinedClassifier", "input_layer_partitioner"),
        ("LinearRegressor", "partitioner"),
    ],
)
def test_a_partitioner_is_not_used_and_that_is_said(
    tmp_path: Path, info_log: pytest.LogCaptureFixture, family: str, argument: str
) -> None:
    given = {"D": DNN, "L": LINEAR}[family[0]] if "Combined" not in family else COMBINED
    partitioner = tf.compat.v1.fixed_size_partitioner(2)

    estimator = getattr(v1, family)(model_dir=str(tmp_path), **given, **{argument: partitioner})
    estimator.train(lambda: input_fn("v1.LinearClassifier_bin"))

    assert f"{argument} is not used: every task holds whole variables" in info_log.text
    assert not [name for name, _ in tf.train.list_variables(str(tmp_path)) if "part_" in name]


def test_an_estimator_of_a_model_fn_exports_under_the_older_name(tmp_path: Path) -> None:
    def model_fn(features: Any, mode: str) -> Any:
        weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.ones_initializer())
        step = tf.compat.v1.assign_add(tf.compat.v1.train.get_global_step(), 1)
        predictions = {"y": features["x"] * weight}
        return v1.EstimatorSpec(mode, predictions=predictions, loss=tf.reduce_sum(weight), train_op=step)

    estimator = v1.Estimator(model_fn, str(tmp_path / "model"))
    estimator.train(lambda: tf.data.Dataset.from_tensors({"x": [1.0]}), steps=1)
    receiver_fn = v1.export.build_raw_serving_input_receiver_fn({"x": tf.TensorSpec([None], tf.float32)})
    stripped = estimator.export_savedmodel(str(tmp_path / "export"), receiver_fn, strip_default_attrs=True)
    whole = estimator.export_savedmodel(str(tmp_path / "export"), receiver_fn)

    for path, is_stripped in ((stripped, True), (whole, False)):
        (graph,) = saved_model_pb2.SavedModel.FromString(Path(path.decode(), "saved_model.pb").read_bytes()).meta_graphs
        assert graph.meta_info_def.stripped_default_attrs is is_stripped
    model = tf.saved_model.load(stripped.decode())
    assert model.signatures["serving_default"](x=tf.constant([2.0]))["y"].numpy().tolist() == [2.0]
