"""What the tests ask of either library: one command is one call of an estimator. Runs in both interpreters."""

from typing import Any

import numpy as np
import tensorflow as tf

from tests.estimator.oracle.models import Custom, Library, Model, examples


def train(model: Model | Custom, library: Library, model_dir: str, *, steps: int) -> None:
    """Goes on from what is in model_dir, from the first example on."""
    model.make(library, model_dir).train(lambda: examples(model.kind).repeat(), steps=steps)


def evaluate(model: Model | Custom, library: Library, model_dir: str) -> dict[str, float]:
    metrics = model.make(library, model_dir).evaluate(lambda: examples(model.kind))
    return {name: float(value) for name, value in metrics.items()}


def predict(model: Model | Custom, library: Library, model_dir: str) -> list[dict[str, list[Any]]]:
    predictions = model.make(library, model_dir).predict(lambda: examples(model.kind))
    return [{name: _plain(value) for name, value in prediction.items()} for prediction in predictions]


def read(model_dir: str) -> dict[str, Any]:
    """What TensorFlow's own tools see in a model_dir."""
    reader = tf.train.load_checkpoint(model_dir)
    state = tf.train.get_checkpoint_state(model_dir)
    return {
        "latest": tf.train.latest_checkpoint(model_dir),
        "all": list(state.all_model_checkpoint_paths),
        "values": {name: reader.get_tensor(name).tolist() for name in reader.get_variable_to_shape_map()},
    }


def _plain(value: Any) -> list[Any]:
    return [each.decode() for each in value.tolist()] if value.dtype == np.object_ else value.tolist()
