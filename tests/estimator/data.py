"""Inputs that the estimator tests share."""

import csv
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from runner import estimator as tfe

FEATURES = ("SepalLength", "SepalWidth", "PetalLength", "PetalWidth")
N_EXAMPLES = 150


def iris() -> tf.data.Dataset:
    """The 150 examples in order, as (features by name, label)."""
    with (files("runner.quickstart") / "iris.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    features = {name: np.array([row[name] for row in rows], np.float32) for name in FEATURES}
    return tf.data.Dataset.from_tensor_slices((features, np.array([row["Species"] for row in rows], np.int64)))


def train_input_fn() -> tf.data.Dataset:
    return iris().shuffle(N_EXAMPLES, seed=1).repeat().batch(100)


def eval_input_fn() -> tf.data.Dataset:
    return iris().batch(50)


def columns() -> list[Any]:
    return [tf.feature_column.numeric_column(name) for name in FEATURES]


def classifier(model_dir: Any, *, hidden_units: tuple[int, ...] = (10, 10), **config: Any) -> tfe.DNNClassifier:
    """The DNNClassifier of the specification, seeded so that it learns."""
    run_config = tfe.RunConfig(**{"tf_random_seed": 7, **config})
    return tfe.DNNClassifier(list(hidden_units), columns(), str(model_dir), n_classes=3, config=run_config)


def steps_of(model_dir: Path) -> list[int]:
    return sorted(int(path.stem.rpartition("-")[2]) for path in model_dir.glob("model.ckpt-*.index"))


def linear_model_fn(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> tfe.EstimatorSpec:
    """One weight, so that a loss can be worked out by hand."""
    weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.zeros_initializer())
    predictions = {"y": weight * features["x"]}
    if mode == tfe.ModeKeys.PREDICT:
        return tfe.EstimatorSpec(mode, predictions=predictions)
    loss = tf.reduce_mean(tf.square(predictions["y"] - labels)) * params.get("scale", 1.0)
    optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.1)
    train_op = optimizer.minimize(loss, global_step=tf.compat.v1.train.get_global_step())
    return tfe.EstimatorSpec(mode, predictions=predictions, loss=loss, train_op=train_op)


def linear_input_fn() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(({"x": [1.0, 2.0]}, [2.0, 4.0])).repeat(10)
