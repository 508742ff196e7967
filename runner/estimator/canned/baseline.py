"""BaselineClassifier, BaselineRegressor and BaselineEstimator: a bias alone, which ignores the features.

What they predict is the distribution of the classes, or the mean label: any other model should do better.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.canned.parts import Logits, Part, make_model_fn
from runner.estimator.estimator import Estimator
from runner.estimator.heads.class_head import class_head
from runner.estimator.heads.head import Head
from runner.estimator.heads.regression import RegressionHead
from runner.estimator.run_config import RunConfig

__all__ = ["BaselineClassifier", "BaselineEstimator", "BaselineRegressor"]

_LEARNING_RATE = 0.3
"""Of an optimizer given by name, as the original documents."""


class BaselineClassifier(Estimator):
    """Predicts the share of each class; a re-creation of tf.estimator.BaselineClassifier.

    Args:
        model_dir: See Estimator.
        n_classes: Number of classes; labels are class ids from 0 to n_classes - 1.
        weight_column: Feature with the weights of the examples: its name or a numeric column.
        label_vocabulary: Classes as strings, in order, if labels are strings.
        optimizer: A name ("Adagrad", "Adam", "Ftrl", "RMSProp", "SGD", with a learning rate of 0.3), an optimizer of
            tf_keras.optimizers, tf.compat.v1.train or Keras 3, or a callable that makes one, called in the graph.
        config: See Estimator.
        loss_reduction: "sum_over_batch_size" or "sum".

    Raises:
        ValueError: n_classes is below 2, or another argument is not valid.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: Any = "Ftrl",
        config: RunConfig | None = None,
        loss_reduction: str = "sum_over_batch_size",
    ) -> None:
        head = class_head(
            n_classes, weight_column=weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction
        )
        super().__init__(make_model_fn(head, [_part(optimizer, weight_column)]), model_dir, config)


class BaselineRegressor(Estimator):
    """Predicts the mean label; a re-creation of tf.estimator.BaselineRegressor.

    Args:
        model_dir: See Estimator.
        label_dimension: Number of values to predict for each example: labels are `[batch, label_dimension]`.
        weight_column: See BaselineClassifier.
        optimizer: See BaselineClassifier.
        config: See Estimator.
        loss_reduction: See BaselineClassifier.

    Raises:
        ValueError: label_dimension is below 1, or another argument is not valid.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        optimizer: Any = "Ftrl",
        config: RunConfig | None = None,
        loss_reduction: str = "sum_over_batch_size",
    ) -> None:
        head = RegressionHead(label_dimension, weight_column=weight_column, loss_reduction=loss_reduction)
        super().__init__(make_model_fn(head, [_part(optimizer, weight_column)]), model_dir, config)


class BaselineEstimator(Estimator):
    """A bias under a head of one's choice; a re-creation of tf.estimator.BaselineEstimator.

    Args:
        head: What turns the logits into loss, predictions and metrics.
        model_dir: See Estimator.
        optimizer: See BaselineClassifier.
        config: See Estimator.
    """

    def __init__(
        self, head: Head, model_dir: str | None = None, optimizer: Any = "Ftrl", config: RunConfig | None = None
    ) -> None:
        super().__init__(make_model_fn(head, [_part(optimizer, None)]), model_dir, config)


def _part(optimizer: Any, weight_column: Any) -> Part:
    weight_key = weight_column if isinstance(weight_column, str) else getattr(weight_column, "key", None)

    def build(features: dict[str, Any], mode: str, units: int) -> Logits:  # noqa: ARG001 - the same in all modes
        with tf.compat.v1.variable_scope("baseline"):
            bias = tf.compat.v1.get_variable(
                "bias", [units], initializer=tf.compat.v1.zeros_initializer(), use_resource=True
            )
            return Logits(bias * tf.ones([_batch_size(features, weight_key), units]), [bias])

    return Part(build, optimizer, _LEARNING_RATE)


def _batch_size(features: dict[str, Any], weight_key: str | None) -> Any:
    """The first dimension, which all features have in common.

    The weights are left out, since a served model is not given them.
    """
    sizes = [tf.shape(feature, tf.int64)[0] for key, feature in features.items() if key != weight_key]
    if not sizes:
        raise ValueError(f"There is no feature to tell the size of a batch. Given the features: {sorted(features)}")
    equal = [tf.debugging.assert_equal(size, sizes[0], "The features differ in their batch size.") for size in sizes]
    # Where shapes are static nothing else would read the input, which would then never end.
    tensors = tf.nest.flatten(features, expand_composites=True)
    with tf.control_dependencies([*equal[1:], *tensors]):
        return tf.identity(sizes[0])
