"""The canned estimators against the recorded schema of the real ones: variables, metrics, predictions, exports."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

# TensorFlow exports it under no public name.
from tensorflow.core.protobuf import saved_model_pb2

from runner import estimator as tfe
from tests.estimator.data import FEATURES

SCHEMA: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "schema.json").read_text(encoding="utf-8")
)
ENTRIES = [entry for entry in SCHEMA if entry.startswith("v2.") and "RNN" not in entry]

_legacy = tf_keras.optimizers.legacy
_OPTIMIZERS: dict[str, Any] = {
    "Adam": "Adam",
    "RMSProp": "RMSProp",
    "SGD": "SGD",
    "Ftrl": "Ftrl",
    "legacyAdam": _legacy.Adam(0.01),
    "momentumSGD": lambda: _legacy.SGD(0.01, momentum=0.9),
}


def columns(*, numeric: bool = True, embedding: bool = False, category: bool = False) -> list[Any]:
    cat = tf.feature_column.categorical_column_with_vocabulary_list("cat", ["a", "b", "c"])
    made: list[Any] = [tf.feature_column.numeric_column(name) for name in FEATURES] if numeric else []
    made += [tf.feature_column.embedding_column(cat, 2)] if embedding else []
    return made + ([cat] if category else [])


def make(entry: str, model_dir: str) -> tfe.Estimator:
    """The estimator that an entry of the schema was recorded from."""
    family, _, variant = entry.removeprefix("v2.").partition("_")
    n_classes = 2 if variant == "bin" else 3
    wide_and_deep: dict[str, Any] = {
        "linear_feature_columns": columns(numeric=False, category=True),
        "dnn_feature_columns": columns(embedding=family == "DNNLinearCombinedRegressor"),
        "dnn_hidden_units": [8, 4],
    }
    makers: dict[str, Callable[[], tfe.Estimator]] = {
        "DNNClassifier": lambda: tfe.DNNClassifier(
            [8] if variant in _OPTIMIZERS else [8, 4],
            columns(embedding=variant in ("bin", "3")),
            model_dir,
            n_classes,
            optimizer=_OPTIMIZERS.get(variant, "Adagrad"),
            batch_norm=variant == "bn",
        ),
        "DNNRegressor": lambda: tfe.DNNRegressor([8, 4], columns(embedding=True), model_dir),
        "DNNEstimator": lambda: tfe.DNNEstimator(head(variant), [8, 4], columns(), model_dir),
        "LinearClassifier": lambda: tfe.LinearClassifier(columns(category=True), model_dir, n_classes),
        "LinearRegressor": lambda: tfe.LinearRegressor(columns(category=True), model_dir),
        "LinearEstimator": lambda: tfe.LinearEstimator(head(variant), columns(), model_dir),
        "DNNLinearCombinedClassifier": lambda: tfe.DNNLinearCombinedClassifier(
            model_dir, n_classes=n_classes, **wide_and_deep
        ),
        "DNNLinearCombinedRegressor": lambda: tfe.DNNLinearCombinedRegressor(model_dir, **wide_and_deep),
        "DNNLinearCombinedEstimator": lambda: tfe.DNNLinearCombinedEstimator(
            tfe.RegressionHead(), model_dir, **wide_and_deep
        ),
    }
    return makers[family]()


def head(variant: str) -> tfe.Head:
    makers: dict[str, Callable[[], tfe.Head]] = {
        "multiclass": lambda: tfe.MultiClassHead(3),
        "multilabel": lambda: tfe.MultiLabelHead(3),
        "multihead": lambda: tfe.MultiHead([tfe.MultiClassHead(3, name="h1"), tfe.RegressionHead(name="h2")]),
        "poisson": tfe.PoissonRegressionHead,
        "logistic": tfe.LogisticRegressionHead,
    }
    return makers[variant]()


def input_fn(entry: str) -> tf.data.Dataset:
    values = np.arange(32, dtype=np.float32).reshape(8, 4) / 32
    features = {name: values[:, index] for index, name in enumerate(FEATURES)}
    features["cat"] = np.array(["a", "b", "c", "z"] * 2)
    classes = np.arange(8) % (2 if entry.endswith(("_bin", "_logistic")) else 3)
    labels: Any = classes
    if "Regressor" in entry or entry.endswith(("_logistic", "_poisson", "CombinedEstimator")):
        labels = classes.astype(np.float32)
    elif entry.endswith("_multilabel"):
        labels = np.eye(3, dtype=np.int64)[classes]
    elif entry.endswith("_multihead"):
        labels = {"h1": classes, "h2": classes.astype(np.float32)}
    return tf.data.Dataset.from_tensor_slices((features, labels)).batch(8)


def signatures_of(export_dir: Path) -> dict[str, Any]:
    """As in the schema: [method, inputs, outputs] of each signature, as names of tensors."""
    saved_model = saved_model_pb2.SavedModel.FromString((export_dir / "saved_model.pb").read_bytes())
    return {
        name: [
            signature.method_name,
            {key: tensor.name for key, tensor in signature.inputs.items()},
            {key: tensor.name for key, tensor in signature.outputs.items()},
        ]
        for name, signature in saved_model.meta_graphs[0].signature_def.items()
        if not name.startswith("__")
    }


class Trainables(tf.compat.v1.train.SessionRunHook):
    """Notes the names of the trainable variables of a graph."""

    names: list[str]

    def begin(self) -> None:
        self.names = [variable.name for variable in tf.compat.v1.trainable_variables()]


@dataclass(frozen=True)
class Trained:
    """The estimator of an entry after one step."""

    entry: str
    estimator: tfe.Estimator
    trainables: list[str]


@pytest.fixture(scope="module", params=ENTRIES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    entry, trainables = request.param, Trainables()
    estimator = make(entry, str(tmp_path_factory.mktemp("model")))
    estimator.train(lambda: input_fn(entry), hooks=[trainables])
    return Trained(entry, estimator, trainables.names)


def test_a_canned_estimator_has_the_variables_and_summaries_of_the_original(trained: Trained) -> None:
    expected, model_dir = SCHEMA[trained.entry], trained.estimator.model_dir

    dtypes = tf.train.load_checkpoint(model_dir).get_variable_to_dtype_map()
    stored = [[name, shape, dtypes[name].name] for name, shape in tf.train.list_variables(model_dir)]
    assert sorted(stored) == sorted(expected["vars"])
    assert trained.trainables == expected["trainable"]
    events = next(Path(model_dir).glob("events.*"))
    tags = {value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value}
    assert tags == set(expected["train_tags"])


def test_its_metrics_and_predictions_are_those_of_the_original(trained: Trained) -> None:
    expected = SCHEMA[trained.entry]

    metrics = trained.estimator.evaluate(lambda: input_fn(trained.entry))
    prediction = next(trained.estimator.predict(lambda: input_fn(trained.entry)))

    assert sorted(metrics) == expected["eval_keys"]
    assert {str(key): [value.dtype.name, list(value.shape)] for key, value in prediction.items()} == expected["predict"]


def test_its_export_has_the_signatures_of_the_original(trained: Trained, tmp_path: Path) -> None:
    if (expected := SCHEMA[trained.entry].get("signatures")) is None:
        assert trained.entry.startswith("v2.DNNClassifier_")  # recorded with one optimizer only
        return
    spec = tf.feature_column.make_parse_example_spec(columns(category=True))

    path = trained.estimator.export_saved_model(str(tmp_path), tfe.export.build_parsing_serving_input_receiver_fn(spec))

    # The original repeats the scope of a linear model three times.
    scope = "linear/linear_model/"
    assert signatures_of(Path(path.decode())) == json.loads(json.dumps(expected).replace(scope * 3, scope))
