"""What the tests ask of either library: one command is one call of an estimator. Runs in both interpreters."""

from typing import Any

import numpy as np
import tensorflow as tf

from tests.estimator.oracle.models import NUMBERS, Custom, Library, Model, examples


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


def export(model: Model | Custom, library: Library, model_dir: str, *, export_dir_base: str) -> str:
    """Exports the model with a receiver of tf.train.Examples, and says where to."""
    spec = {name: tf.io.FixedLenFeature([], tf.float32) for name in NUMBERS}
    spec["Petal"] = tf.io.FixedLenFeature([], tf.string)
    receiver_fn = library.v2.export.build_parsing_serving_input_receiver_fn(spec)
    path: bytes = model.make(library, model_dir).export_saved_model(export_dir_base, receiver_fn)
    return path.decode()


def serve(export_dir: str) -> dict[str, Any]:
    """What the signatures of an export answer to three examples, and under which names and as what."""
    features, _ = next(iter(examples("Classifier").unbatch().batch(3).as_numpy_iterator()))
    request = tf.constant([_serialized({name: features[name][row] for name in features}) for row in range(3)])
    signatures = tf.saved_model.load(export_dir).signatures
    answers = {}
    for name, signature in signatures.items():
        (argument,) = signature.structured_input_signature[1]
        answer = signature(**{argument: request})
        answers[name] = {
            "input": argument,
            "outputs": {key: [str(each.shape), each.dtype.name] for key, each in signature.structured_outputs.items()},
            "values": {key: _plain(value.numpy()) for key, value in answer.items()},
        }
    return answers


def _serialized(features: dict[str, Any]) -> bytes:
    lists = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        for name, value in features.items()
    }
    serialized: bytes = tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()
    return serialized


def _plain(value: Any) -> list[Any]:
    return value.astype(str).tolist() if value.dtype == np.object_ else value.tolist()
