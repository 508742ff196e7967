"""Small trainings from given weights, for any library with the API of tf.estimator.

`python -m tests.estimator.canned_trainings` in an environment with the real one (TensorFlow 2.15) prints what is in
fixtures/canned_trainings.json: the variables and metrics that it ends with.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

STEPS = 3
TRAININGS = ("baseline", "combined_regressor", "dnn_classifier", "dnn_regressor", "linear_classifier")

_fc = tf.feature_column
_DNN = {
    "dnn/input_from_feature_columns/input_layer/cat_embedding/embedding_weights": [3, 2],
    "dnn/hiddenlayer_0/kernel": [4, 3],
    "dnn/hiddenlayer_0/bias": [3],
    "dnn/logits/kernel": [3, 1],
    "dnn/logits/bias": [1],
}


def run(name: str, *, tfe: Any, optimizers: Any, directory: str) -> dict[str, Any]:
    """Trains three steps, and evaluates.

    Args:
        name: One of TRAININGS.
        tfe: The estimator library.
        optimizers: The namespace of the legacy optimizers of Keras 2.
        directory: Empty, for checkpoints.

    Returns:
        `variables` and `metrics` by name.
    """
    makers: dict[str, Callable[..., tuple[Any, Callable[[], Any]]]] = {
        "baseline": _baseline,
        "combined_regressor": _combined_regressor,
        "dnn_classifier": _dnn_classifier,
        "dnn_regressor": _dnn_regressor,
        "linear_classifier": _linear_classifier,
    }
    estimator, input_fn = makers[name](tfe, optimizers, directory)
    estimator.train(input_fn, steps=STEPS)
    metrics = estimator.evaluate(input_fn, steps=1)
    return {
        "variables": {name: estimator.get_variable_value(name).tolist() for name in estimator.get_variable_names()},
        "metrics": {name: float(value) for name, value in metrics.items()},
    }


def _initial(shapes: dict[str, list[int]], directory: str) -> str:
    """A checkpoint of variables with these shapes, and values of all signs below 1."""
    values = [
        np.sin(np.arange(np.prod(shape), dtype=np.float32) + seed).reshape(shape).astype(np.float32)
        for seed, shape in enumerate(shapes.values())
    ]
    prefix = str(Path(directory) / "initial.ckpt")
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=list(shapes), shape_and_slices=[""] * len(shapes), tensors=values)
    return prefix


def _features() -> dict[str, Any]:
    categories = tf.sparse.from_dense([["a", "b"], ["c", ""], ["b", ""], ["z", "a"]])
    return {
        "x": np.array([[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0], [0.0, 1.0]], np.float32),
        "cat": categories,
        "weight": np.array([1.0, 2.0, 0.5, 1.0], np.float32),
    }


def _dataset(labels: Any) -> Callable[[], Any]:
    return lambda: tf.data.Dataset.from_tensors((_features(), labels)).repeat()


def _cat() -> Any:
    return _fc.categorical_column_with_vocabulary_list("cat", ["a", "b", "c"])


def _dense_columns() -> list[Any]:
    return [_fc.numeric_column("x", shape=2), _fc.embedding_column(_cat(), 2, combiner="sqrtn")]


def _dnn_classifier(tfe: Any, optimizers: Any, directory: str) -> tuple[Any, Callable[[], Any]]:
    shapes = {**_DNN, "dnn/hiddenlayer_0/batchnorm_0/gamma": [3], "dnn/hiddenlayer_0/batchnorm_0/beta": [3]}
    estimator = tfe.DNNClassifier(
        [3],
        _dense_columns(),
        f"{directory}/model",
        weight_column="weight",
        optimizer=optimizers.Adagrad(0.05),
        activation_fn=tf.nn.tanh,
        warm_start_from=_initial(shapes, directory),
        batch_norm=True,
    )
    return estimator, _dataset([1, 0, 1, 0])


def _dnn_regressor(tfe: Any, optimizers: Any, directory: str) -> tuple[Any, Callable[[], Any]]:
    estimator = tfe.DNNRegressor(
        [3],
        _dense_columns(),
        f"{directory}/model",
        optimizer=optimizers.Adam(0.1),
        warm_start_from=_initial(_DNN, directory),
        loss_reduction="sum",
    )
    return estimator, _dataset([0.5, -1.0, 2.0, 0.0])


def _linear_classifier(tfe: Any, optimizers: Any, directory: str) -> tuple[Any, Callable[[], Any]]:
    shapes = {
        "linear/linear_model/x/weights": [2, 3],
        "linear/linear_model/cat/weights": [3, 3],
        "linear/linear_model/bias_weights": [3],
    }
    estimator = tfe.LinearClassifier(
        [_fc.numeric_column("x", shape=2), _cat()],
        f"{directory}/model",
        n_classes=3,
        weight_column="weight",
        optimizer=optimizers.Ftrl(0.2, l1_regularization_strength=0.01),
        warm_start_from=_initial(shapes, directory),
        sparse_combiner="mean",
    )
    return estimator, _dataset([1, 0, 2, 0])


def _combined_regressor(tfe: Any, optimizers: Any, directory: str) -> tuple[Any, Callable[[], Any]]:
    shapes = {**_DNN, "linear/linear_model/cat/weights": [3, 1], "linear/linear_model/bias_weights": [1]}
    estimator = tfe.DNNLinearCombinedRegressor(
        f"{directory}/model",
        [_cat()],
        optimizers.Ftrl(0.05),
        _dense_columns(),
        optimizers.Adagrad(0.05),
        [3],
        warm_start_from=_initial(shapes, directory),
    )
    return estimator, _dataset([0.5, -1.0, 2.0, 0.0])


def _baseline(tfe: Any, optimizers: Any, directory: str) -> tuple[Any, Callable[[], Any]]:
    estimator = tfe.BaselineClassifier(f"{directory}/model", 3, optimizer=optimizers.Ftrl(0.3))
    # Tensors, since the original fails with a Dataset.
    return estimator, lambda: ({"x": tf.constant([[1.0], [2.0], [3.0]])}, tf.constant([1, 1, 2]))


if __name__ == "__main__":
    recorded = {}
    for each in TRAININGS:
        with tempfile.TemporaryDirectory() as temporary:
            recorded[each] = run(each, tfe=tf.estimator, optimizers=tf.keras.optimizers.legacy, directory=temporary)
    print(json.dumps(recorded, indent=1, sort_keys=True))  # noqa: T201 - the fixture
