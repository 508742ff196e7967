"""DNNLinearCombinedClassifier, -Regressor and -Estimator: the sum of a linear model and a network, trained jointly."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.canned.dnn import network_part
from runner.estimator.canned.linear import linear_part
from runner.estimator.canned.parts import Logits, Part, make_model_fn
from runner.estimator.estimator import Estimator
from runner.estimator.heads.class_head import class_head
from runner.estimator.heads.head import Head
from runner.estimator.heads.regression import RegressionHead
from runner.estimator.run_config import RunConfig
from runner.estimator.warm_start import WarmStartSettings

__all__ = ["DNNLinearCombinedClassifier", "DNNLinearCombinedEstimator", "DNNLinearCombinedRegressor"]

# Of optimizers given by name, as the original documents; that of the linear part, for few columns.
_DNN_LEARNING_RATE = 0.001
_LINEAR_LEARNING_RATE = 0.005


class DNNLinearCombinedClassifier(Estimator):
    """A wide and deep classifier; a re-creation of tf.estimator.DNNLinearCombinedClassifier.

    Args:
        model_dir: See Estimator.
        linear_feature_columns: Columns of the linear model; see LinearClassifier.
        linear_optimizer: Of the linear model; see LinearClassifier, but names mean a learning rate of
            min(0.005, 1 / sqrt(number of columns)).
        dnn_feature_columns: Columns of the network; see DNNClassifier. One of the two may be left out, not both.
        dnn_optimizer: Of the network; see DNNClassifier, but names mean a learning rate of 0.001.
        dnn_hidden_units: See DNNClassifier.
        dnn_activation_fn: See DNNClassifier.
        dnn_dropout: See DNNClassifier.
        n_classes: Number of classes; labels are class ids from 0 to n_classes - 1.
        weight_column: See DNNClassifier.
        label_vocabulary: See DNNClassifier.
        config: See Estimator.
        warm_start_from: See Estimator.
        loss_reduction: "sum_over_batch_size" or "sum".
        batch_norm: See DNNClassifier.
        linear_sparse_combiner: See LinearClassifier.

    Raises:
        ValueError: There are no columns, n_classes is below 2, or another argument is not valid.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        linear_feature_columns: Iterable[Any] | None = None,
        linear_optimizer: Any = "Ftrl",
        dnn_feature_columns: Iterable[Any] | None = None,
        dnn_optimizer: Any = "Adagrad",
        dnn_hidden_units: Sequence[int] | None = None,
        dnn_activation_fn: Callable[[Any], Any] | str | None = tf.nn.relu,
        dnn_dropout: float | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[str] | None = None,
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = "sum_over_batch_size",
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        parts = _parts(
            linear_feature_columns,
            dnn_feature_columns,
            linear=_Linear(linear_optimizer, linear_sparse_combiner),
            dnn=_DNN(dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout, batch_norm),
        )
        head = class_head(
            n_classes, weight_column=weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction
        )
        super().__init__(make_model_fn(head, parts), model_dir, config, warm_start_from=warm_start_from)


class DNNLinearCombinedRegressor(Estimator):
    """A wide and deep regressor; a re-creation of tf.estimator.DNNLinearCombinedRegressor.

    Args:
        model_dir: See Estimator.
        linear_feature_columns: See DNNLinearCombinedClassifier.
        linear_optimizer: See DNNLinearCombinedClassifier.
        dnn_feature_columns: See DNNLinearCombinedClassifier.
        dnn_optimizer: See DNNLinearCombinedClassifier.
        dnn_hidden_units: See DNNClassifier.
        dnn_activation_fn: See DNNClassifier.
        dnn_dropout: See DNNClassifier.
        label_dimension: Number of values to predict for each example: labels are `[batch, label_dimension]`.
        weight_column: See DNNClassifier.
        config: See Estimator.
        warm_start_from: See Estimator.
        loss_reduction: "sum_over_batch_size" or "sum".
        batch_norm: See DNNClassifier.
        linear_sparse_combiner: See LinearClassifier.

    Raises:
        ValueError: There are no columns, label_dimension is below 1, or another argument is not valid.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        linear_feature_columns: Iterable[Any] | None = None,
        linear_optimizer: Any = "Ftrl",
        dnn_feature_columns: Iterable[Any] | None = None,
        dnn_optimizer: Any = "Adagrad",
        dnn_hidden_units: Sequence[int] | None = None,
        dnn_activation_fn: Callable[[Any], Any] | str | None = tf.nn.relu,
        dnn_dropout: float | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = "sum_over_batch_size",
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        parts = _parts(
            linear_feature_columns,
            dnn_feature_columns,
            linear=_Linear(linear_optimizer, linear_sparse_combiner),
            dnn=_DNN(dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout, batch_norm),
        )
        head = RegressionHead(label_dimension, weight_column=weight_column, loss_reduction=loss_reduction)
        super().__init__(make_model_fn(head, parts), model_dir, config, warm_start_from=warm_start_from)


class DNNLinearCombinedEstimator(Estimator):
    """A wide and deep model under a head of one's choice; a re-creation of tf.estimator.DNNLinearCombinedEstimator.

    Args:
        head: What turns the logits into loss, predictions and metrics.
        model_dir: See Estimator.
        linear_feature_columns: See DNNLinearCombinedClassifier.
        linear_optimizer: See DNNLinearCombinedClassifier.
        dnn_feature_columns: See DNNLinearCombinedClassifier.
        dnn_optimizer: See DNNLinearCombinedClassifier.
        dnn_hidden_units: See DNNClassifier.
        dnn_activation_fn: See DNNClassifier.
        dnn_dropout: See DNNClassifier.
        config: See Estimator.
        batch_norm: See DNNClassifier.
        linear_sparse_combiner: See LinearClassifier.

    Raises:
        ValueError: There are no columns, or another argument is not valid.
    """

    def __init__(
        self,
        head: Head,
        model_dir: str | None = None,
        linear_feature_columns: Iterable[Any] | None = None,
        linear_optimizer: Any = "Ftrl",
        dnn_feature_columns: Iterable[Any] | None = None,
        dnn_optimizer: Any = "Adagrad",
        dnn_hidden_units: Sequence[int] | None = None,
        dnn_activation_fn: Callable[[Any], Any] | str | None = tf.nn.relu,
        dnn_dropout: float | None = None,
        config: RunConfig | None = None,
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        parts = _parts(
            linear_feature_columns,
            dnn_feature_columns,
            linear=_Linear(linear_optimizer, linear_sparse_combiner),
            dnn=_DNN(dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout, batch_norm),
        )
        super().__init__(make_model_fn(head, parts), model_dir, config)


@dataclasses.dataclass(frozen=True)
class _Linear:
    """Arguments of the linear part, but its columns."""

    optimizer: Any
    sparse_combiner: str


@dataclasses.dataclass(frozen=True)
class _DNN:
    """Arguments of the network, but its columns."""

    optimizer: Any
    hidden_units: Sequence[int] | None
    activation_fn: Callable[[Any], Any] | str | None
    dropout: float | None
    batch_norm: bool


def _parts(
    linear_feature_columns: Iterable[Any] | None,
    dnn_feature_columns: Iterable[Any] | None,
    *,
    linear: _Linear,
    dnn: _DNN,
) -> list[Part]:
    """The parts that have columns: the network, if any, comes first, so that its optimizer counts the steps."""
    linear_columns, dnn_columns = tuple(linear_feature_columns or ()), tuple(dnn_feature_columns or ())
    if not linear_columns and not dnn_columns:
        raise ValueError("Either linear_feature_columns or dnn_feature_columns must be defined.")
    if dnn_columns and not dnn.hidden_units:
        raise ValueError("dnn_hidden_units must be defined when dnn_feature_columns is specified.")
    parts = []
    if dnn_columns:
        parts.append(
            network_part(
                dnn_columns,
                dnn.hidden_units or (),
                dnn.optimizer,
                dnn.activation_fn,
                dnn.dropout,
                batch_norm=dnn.batch_norm,
                learning_rate=_DNN_LEARNING_RATE,
            )
        )
    if linear_columns:
        parts.append(_linear_part(linear_columns, linear))
    return parts


def _linear_part(columns: tuple[Any, ...], arguments: _Linear) -> Part:
    """The linear part, with the summaries that it has in this model only."""
    part = linear_part(
        columns, arguments.optimizer, arguments.sparse_combiner, highest_learning_rate=_LINEAR_LEARNING_RATE
    )

    def build(features: dict[str, Any], mode: str, units: int) -> Logits:
        logits = part.build(features, mode, units)
        with tf.name_scope(""):
            tf.compat.v1.summary.scalar("linear/fraction_of_zero_values", tf.math.zero_fraction(logits.values))
            tf.compat.v1.summary.histogram("linear/activation", logits.values)
        return logits

    return dataclasses.replace(part, build=build)
