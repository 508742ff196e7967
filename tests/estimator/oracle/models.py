"""Models that are built alike by the real tf.estimator and by ours, on the same examples in the same order.

This module runs in the interpreter of TensorFlow 2.15 too, so that it imports nothing of this project.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

IRIS = Path(__file__).parents[3] / "runner" / "quickstart" / "iris.csv"
NUMBERS = ("SepalLength", "SepalWidth", "PetalLength")
WORDS = ("short", "medium", "long")

_v1 = tf.compat.v1
_fc = tf.feature_column


@dataclass(frozen=True)
class Library:
    """One of the two.

    Attributes:
        v2: The namespace tf.estimator.
        v1: The namespace tf.compat.v1.estimator, or None: then the v2 classes stand for those of v1.
        legacy: The namespace tf.keras.optimizers.legacy.
    """

    v2: Any
    v1: Any
    legacy: Any


def examples(kind: str) -> tf.data.Dataset:
    """The flowers, one of each species in turn, in batches of 50: three numbers, a word, and what to learn."""
    with IRIS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows = [rows[50 * species + index] for index in range(50) for species in range(3)]
    numbers = {name: np.array([row[name] for row in rows], np.float32) for name in (*NUMBERS, "PetalWidth")}
    words = np.array(WORDS)[np.digitize(numbers["PetalLength"], [2.0, 5.0])]
    classes = np.array([row["Species"] for row in rows], np.int64)
    labels = numbers["PetalWidth"] if kind == "Regressor" else classes
    features = {**{name: numbers[name] for name in NUMBERS}, "Petal": words}
    return tf.data.Dataset.from_tensor_slices((features, labels)).batch(50)


def _numbers() -> list[Any]:
    return [_fc.numeric_column(name) for name in NUMBERS]


def _word() -> Any:
    return _fc.categorical_column_with_vocabulary_list("Petal", WORDS)


_WIDE: dict[str, Callable[[], list[Any]]] = {"feature_columns": lambda: [*_numbers(), _word()]}
_DEEP: dict[str, Callable[[], list[Any]]] = {
    "feature_columns": lambda: [*_numbers(), _fc.embedding_column(_word(), 2)],
}
_BOTH: dict[str, Callable[[], list[Any]]] = {
    "linear_feature_columns": lambda: [_word()],
    "dnn_feature_columns": _DEEP["feature_columns"],
}
_ARGUMENTS = {"DNN": _DEEP, "Linear": _WIDE, "DNNLinearCombined": _BOTH, "Baseline": {}}


@dataclass(frozen=True)
class Model:
    """A canned estimator.

    Attributes:
        family: "DNN", "Linear", "DNNLinearCombined" or "Baseline".
        kind: "Classifier" or "Regressor".
        is_v1: Of tf.compat.v1.estimator.
        optimizer: Names of optimizers, with small learning rates, of the deep and the wide part; none for the defaults.
        v1_optimizer: Whether ours has the optimizer of tf.compat.v1.train too.
        hidden_units: Of the deep part.
    """

    family: str
    kind: str
    is_v1: bool = False
    optimizer: tuple[str, ...] = ()
    v1_optimizer: bool = False
    hidden_units: tuple[int, ...] = (8, 4)

    def make(self, library: Library, model_dir: str) -> Any:
        arguments: dict[str, Any] = {name: value() for name, value in _ARGUMENTS[self.family].items()}
        if self.kind == "Classifier":
            arguments["n_classes"] = 3
        if "DNN" in self.family:
            arguments["hidden_units" if self.family == "DNN" else "dnn_hidden_units"] = list(self.hidden_units)
        v1_optimizers = self.v1_optimizer or (self.is_v1 and library.v1 is not None)
        keys = ("dnn_optimizer", "linear_optimizer") if self.family == "DNNLinearCombined" else ("optimizer",)
        for key, name in zip(keys, self.optimizer, strict=False):
            arguments[key] = _optimizer(name, None if v1_optimizers else library.legacy)
        if self.is_v1 and library.v1 is None:
            arguments["loss_reduction"] = "sum"  # the default of the v1 classes
        classes = library.v1 if self.is_v1 and library.v1 is not None else library.v2
        return getattr(classes, self.family + self.kind)(model_dir=model_dir, config=_config(library), **arguments)


@dataclass(frozen=True)
class Custom:
    """A model_fn of layers by hand, trained by Adam.

    Attributes:
        legacy: By that of tf.keras.optimizers.legacy, else by that of tf.compat.v1.train.
    """

    legacy: bool
    kind: str = "Classifier"

    def make(self, library: Library, model_dir: str) -> Any:
        def model_fn(features: Any, labels: Any, mode: str) -> Any:
            inputs = tf.stack([features[name] for name in NUMBERS], axis=1)
            hidden = tf.nn.tanh(_layer("hidden", inputs, 8))
            logits = _layer("logits", hidden, 3)
            predictions = {"logits": logits}
            if mode == library.v2.ModeKeys.PREDICT:
                return library.v2.EstimatorSpec(mode, predictions=predictions)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            metrics = {"accuracy": _v1.metrics.accuracy(labels, tf.argmax(logits, axis=1))}
            train_op = self._train_op(library, loss) if mode == library.v2.ModeKeys.TRAIN else None
            return library.v2.EstimatorSpec(mode, predictions, loss, train_op, metrics)

        return library.v2.Estimator(model_fn, model_dir, _config(library))

    def _train_op(self, library: Library, loss: Any) -> Any:
        step = _v1.train.get_or_create_global_step()
        if not self.legacy:
            return _v1.train.AdamOptimizer(0.01).minimize(loss, global_step=step)
        optimizer = library.legacy.Adam(0.01)
        optimizer.iterations = step
        return optimizer.get_updates(loss, _v1.trainable_variables())[0]


def _layer(name: str, inputs: Any, units: int) -> Any:
    with _v1.variable_scope(name):
        kernel = _v1.get_variable("kernel", [inputs.shape[1], units], initializer=_v1.glorot_uniform_initializer())
        bias = _v1.get_variable("bias", [units], initializer=_v1.zeros_initializer())
    return inputs @ kernel + bias


def _config(library: Library) -> Any:
    return library.v2.RunConfig(tf_random_seed=7, keep_checkpoint_max=1, save_checkpoints_steps=1000)


def _optimizer(name: str, legacy: Any) -> Callable[[], Any]:
    """Makes an optimizer of tf.keras.optimizers.legacy, or of tf.compat.v1.train, with the same settings."""
    train = _v1.train
    return {
        "Adagrad": lambda: legacy.Adagrad(0.02) if legacy else train.AdagradOptimizer(0.02),
        "Adam": lambda: legacy.Adam(0.01) if legacy else train.AdamOptimizer(0.01),
        # tf_keras adds its epsilon outside of the square root where there is no momentum.
        "RMSProp": lambda: legacy.RMSprop(0.001) if legacy else train.RMSPropOptimizer(0.001),
        "RMSProp_momentum": lambda: (
            legacy.RMSprop(0.001, momentum=0.5) if legacy else train.RMSPropOptimizer(0.001, momentum=0.5, epsilon=1e-7)
        ),
        "RMSProp_centered": lambda: (
            legacy.RMSprop(0.001, momentum=0.5, centered=True)
            if legacy
            else train.RMSPropOptimizer(0.001, momentum=0.5, centered=True, epsilon=1e-7)
        ),
        "Adadelta": lambda: (
            legacy.Adadelta(0.5, epsilon=1e-6) if legacy else train.AdadeltaOptimizer(0.5, epsilon=1e-6)
        ),
        "Momentum": lambda: legacy.SGD(0.001, momentum=0.5) if legacy else train.MomentumOptimizer(0.001, 0.5),
        "SGD": lambda: legacy.SGD(0.001) if legacy else train.GradientDescentOptimizer(0.001),
        "Ftrl": lambda: legacy.Ftrl(0.02) if legacy else train.FtrlOptimizer(0.02),
    }[name]


MODELS: dict[str, Model | Custom] = {
    "DNNClassifier": Model("DNN", "Classifier", optimizer=("Adagrad",)),
    "DNNRegressor": Model("DNN", "Regressor"),
    "LinearClassifier": Model("Linear", "Classifier"),
    "DNNLinearCombinedClassifier": Model("DNNLinearCombined", "Classifier", optimizer=("Adagrad", "Ftrl")),
    "DNNLinearCombinedClassifier.Adam": Model("DNNLinearCombined", "Classifier", optimizer=("Adam", "Adam")),
    "custom.v1_Adam": Custom(legacy=False),
    "custom.legacy_Adam": Custom(legacy=True),
    "v1.DNNClassifier": Model("DNN", "Classifier", is_v1=True),
    "v1.DNNRegressor": Model("DNN", "Regressor", is_v1=True),
    "v1.LinearClassifier": Model("Linear", "Classifier", is_v1=True),
    "v1.LinearRegressor": Model("Linear", "Regressor", is_v1=True),
    "v1.DNNLinearCombinedClassifier": Model("DNNLinearCombined", "Classifier", is_v1=True),
    "v1.DNNLinearCombinedRegressor": Model("DNNLinearCombined", "Regressor", is_v1=True),
    "v1.BaselineClassifier": Model("Baseline", "Classifier", is_v1=True),
    "v1.BaselineRegressor": Model("Baseline", "Regressor", is_v1=True),
    **{
        f"v1.DNNClassifier.{name}": Model("DNN", "Classifier", is_v1=True, optimizer=(name,))
        for name in ("Adam", "RMSProp", "RMSProp_momentum", "RMSProp_centered", "SGD", "Ftrl", "Adadelta", "Momentum")
    },
    "v1.LinearClassifier.Adam": Model("Linear", "Classifier", is_v1=True, optimizer=("Adam",)),
    "v1.DNNLinearCombinedClassifier.Adam": Model(
        "DNNLinearCombined", "Classifier", is_v1=True, optimizer=("Adam", "Adam")
    ),
    "v1.BaselineClassifier.Adam": Model("Baseline", "Classifier", is_v1=True, optimizer=("Adam",)),
}
"""By what they are called in the tests; those that begin with "v1." are classes of tf.compat.v1.estimator."""
