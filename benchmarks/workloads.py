"""The models and inputs that are measured; runs on TensorFlow 2.15 too, and needs nothing but TensorFlow and NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["WORKLOADS", "Workload"]


@dataclass(frozen=True)
class Workload:
    """A DNNClassifier and its input.

    Attributes:
        features: Sizes of the features by name.
        hidden_units: Of the classifier.
        n_classes: Of the classifier.
        input_fn: Endless, of batches.
        steps: How many steps make a turn of about a second.
    """

    features: dict[str, int]
    hidden_units: tuple[int, ...]
    n_classes: int
    input_fn: Callable[[], Any]
    steps: int

    def columns(self) -> list[Any]:
        """The feature columns of the classifier."""
        return [tf.feature_column.numeric_column(name, shape=(size,)) for name, size in self.features.items()]

    def classifier(self, estimator: Any, model_dir: str) -> Any:
        """A classifier of the namespace `estimator`, tf.estimator or ours, with its default configuration."""
        return estimator.DNNClassifier(
            list(self.hidden_units), self.columns(), model_dir, n_classes=self.n_classes, optimizer="Adagrad"
        )


def _examples(features: dict[str, int], n_classes: int, count: int) -> Any:
    generator = np.random.default_rng(0)
    values = {name: generator.random((count, size), np.float32) for name, size in features.items()}
    return tf.data.Dataset.from_tensor_slices((values, generator.integers(n_classes, size=count)))


_IRIS = dict.fromkeys(("SepalLength", "SepalWidth", "PetalLength", "PetalWidth"), 1)
_PIXELS = {"pixels": 784}

WORKLOADS = {
    "iris": Workload(
        _IRIS, (10, 10), 3, lambda: _examples(_IRIS, 3, 150).shuffle(150, seed=1).repeat().batch(100), steps=3000
    ),
    "mnist": Workload(
        _PIXELS, (1024, 1024, 1024), 10, lambda: _examples(_PIXELS, 10, 2560).batch(256).cache().repeat(), steps=25
    ),
}
