"""Inputs that the estimator tests share."""

import csv
from importlib.resources import files
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
