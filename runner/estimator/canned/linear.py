"""LinearClassifier, LinearRegressor and LinearEstimator: a linear model over feature columns."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from runner.estimator.canned.linear_model import build_linear_model
from runner.estimator.canned.parts import Logits, Part, make_model_fn
from runner.estimator.canned.sdca import LinearSDCA, make_sdca_model_fn
from runner.estimator.estimator import Estimator
from runner.estimator.heads.class_head import class_head
from runner.estimator.heads.head import Head
from runner.estimator.heads.regression import RegressionHead
from runner.estimator.model_fn import EstimatorSpec
from runner.estimator.run_config import RunConfig
from runner.estimator.warm_start import WarmStartSettings

__all__ = ["LinearClassifier", "LinearEstimator", "LinearRegressor", "linear_part"]

_LEARNING_RATE = 0.2
"""Of an optimizer given by name, for few columns, as the original documents."""


class LinearClassifier(Estimator):
    """A linear classifier; a re-creation of tf.estimator.LinearClassifier.

    Args:
        feature_columns: Dense and categorical columns of tf.feature_column.
        model_dir: See Estimator.
        n_classes: Number of classes; labels are class ids from 0 to n_classes - 1.
        weight_column: Feature with the weights of the examples: its name or a numeric column.
        label_vocabulary: Classes as strings, in order, if labels are strings.
        optimizer: A name ("Adagrad", "Adam", "Ftrl", "RMSProp", "SGD", with a learning rate of
            min(0.2, 1 / sqrt(number of columns))), an optimizer of tf_keras.optimizers, tf.compat.v1.train or Keras 3,
            or a callable that makes one, called in the graph; or LinearSDCA, for two classes. None means Ftrl.
        config: See Estimator.
        warm_start_from: See Estimator.
        loss_reduction: "sum_over_batch_size" or "sum".
        sparse_combiner: How the weights of several categories of one example become one: "sum", "mean" or "sqrtn".

    Raises:
        ValueError: n_classes is below 2, or another argument is not valid.
    """

    def __init__(
        self,
        feature_columns: Iterable[Any],
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: Any = "Ftrl",
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = "sum_over_batch_size",
        sparse_combiner: str = "sum",
    ) -> None:
        head = class_head(
            n_classes, weight_column=weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction
        )
        model_fn = _model_fn(head, feature_columns, optimizer, sparse_combiner)
        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


class LinearRegressor(Estimator):
    """A linear regressor; a re-creation of tf.estimator.LinearRegressor.

    Args:
        feature_columns: See LinearClassifier.
        model_dir: See Estimator.
        label_dimension: Number of values to predict for each example: labels are `[batch, label_dimension]`.
        weight_column: See LinearClassifier.
        optimizer: See LinearClassifier.
        config: See Estimator.
        warm_start_from: See Estimator.
        loss_reduction: See LinearClassifier.
        sparse_combiner: See LinearClassifier.

    Raises:
        ValueError: label_dimension is below 1, or another argument is not valid.
    """

    def __init__(
        self,
        feature_columns: Iterable[Any],
        model_dir: str | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        optimizer: Any = "Ftrl",
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = "sum_over_batch_size",
        sparse_combiner: str = "sum",
    ) -> None:
        head = RegressionHead(label_dimension, weight_column=weight_column, loss_reduction=loss_reduction)
        model_fn = _model_fn(head, feature_columns, optimizer, sparse_combiner)
        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


class LinearEstimator(Estimator):
    """A linear model under a head of one's choice; a re-creation of tf.estimator.LinearEstimator.

    Args:
        head: What turns the logits into loss, predictions and metrics.
        feature_columns: See LinearClassifier.
        model_dir: See Estimator.
        optimizer: See LinearClassifier.
        config: See Estimator.
        sparse_combiner: See LinearClassifier.
        warm_start_from: See Estimator.
    """

    def __init__(
        self,
        head: Head,
        feature_columns: Iterable[Any],
        model_dir: str | None = None,
        optimizer: Any = "Ftrl",
        config: RunConfig | None = None,
        sparse_combiner: str = "sum",
        warm_start_from: str | WarmStartSettings | None = None,
    ) -> None:
        model_fn = _model_fn(head, feature_columns, optimizer, sparse_combiner)
        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)


def _model_fn(
    head: Head, feature_columns: Iterable[Any], optimizer: Any, sparse_combiner: str
) -> Callable[..., EstimatorSpec]:
    if isinstance(optimizer, LinearSDCA):
        return make_sdca_model_fn(head, feature_columns, optimizer, sparse_combiner)
    return make_model_fn(head, [linear_part(feature_columns, optimizer, sparse_combiner)])


def linear_part(
    feature_columns: Iterable[Any],
    optimizer: Any,
    sparse_combiner: str,
    *,
    highest_learning_rate: float = _LEARNING_RATE,
) -> Part:
    """The part that is a linear model, under the scope `linear`.

    Args:
        feature_columns: See LinearClassifier.
        optimizer: See LinearClassifier.
        sparse_combiner: See LinearClassifier.
        highest_learning_rate: Of an optimizer given by name, which has less if there are many columns.
    """
    columns = tuple(feature_columns or ())

    def build(features: dict[str, Any], mode: str, units: int) -> Logits:  # noqa: ARG001 - the same in all modes
        _, logits = build_linear_model(
            features, units, scope="linear/linear_model", feature_columns=columns, sparse_combiner=sparse_combiner
        )
        return logits

    learning_rate = min(highest_learning_rate, 1 / math.sqrt(max(len(columns), 1)))
    return Part(build, "Ftrl" if optimizer is None else optimizer, learning_rate)
