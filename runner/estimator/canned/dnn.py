"""DNNClassifier, DNNRegressor and DNNEstimator: a feed-forward network over feature columns."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.canned.network import build_network
from runner.estimator.canned.parts import Logits, Part, make_model_fn
from runner.estimator.estimator import Estimator
from runner.estimator.heads.class_head import class_head
from runner.estimator.heads.head import Head
from runner.estimator.heads.regression import RegressionHead
from runner.estimator.run_config import RunConfig
from runner.estimator.warm_start import WarmStartSettings

__all__ = ["DNNClassifier", "DNNEstimator", "DNNRegressor", "network_part"]

_LEARNING_RATE = 0.05
"""Of an optimizer given by name, as the original documents."""


class DNNClassifier(Estimator):
    """A classifier with fully connected hidden layers; a re-creation of tf.estimator.DNNClassifier.

    Args:
        hidden_units: Number of units of each hidden layer, from the input up.
        feature_columns: Dense columns of tf.feature_column, such as numeric_column or embedding_column.
        model_dir: See Estimator.
        n_classes: Number of classes; labels are class ids from 0 to n_classes - 1.
        weight_column: Feature with the weights of the examples: its name or a numeric column.
        label_vocabulary: Classes as strings, in order, if labels are strings.
        optimizer: A name ("Adagrad", "Adam", "Ftrl", "RMSProp", "SGD", with a learning rate of 0.05), an optimizer of
            tf_keras.optimizers, tf.compat.v1.train or Keras 3, or a callable that makes one, called in the graph.
        activation_fn: Of the hidden layers: a function or its name; None for none.
        dropout: Probability to drop a unit's output while training; None means never.
        config: See Estimator.
        warm_start_from: See Estimator.
        loss_reduction: "sum_over_batch_size" or "sum".
        batch_norm: Whether to normalize after each hidden layer.

    Raises:
        ValueError: n_classes is below 2, or another argument is not valid.
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        feature_columns: Iterable[Any],
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: Any = "Adagrad",
        activation_fn: Callable[[Any], Any] | str | None = tf.nn.relu,
        dropout: float | None = None,
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = "sum_over_batch_size",
        batch_norm: bool = False,
    ) -> None:
        head = class_head(
            n_classes, weight_column=weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction
        )
        part = network_part(feature_columns, hidden_units, optimizer, activation_fn, dropout, batch_norm=batch_norm)
        super().__init__(make_model_fn(head, [part]), model_dir, config, warm_start_from=warm_start_from)


class DNNRegressor(Estimator):
    """A regressor with fully connected hidden layers; a re-creation of tf.estimator.DNNRegressor.

    Args:
        hidden_units: See DNNClassifier.
        feature_columns: See DNNClassifier.
        model_dir: See Estimator.
        label_dimension: Number of values to predict for each example: labels are `[batch, label_dimension]`.
        weight_column: See DNNClassifier.
        optimizer: See DNNClassifier.
        activation_fn: See DNNClassifier.
        dropout: See DNNClassifier.
        config: See Estimator.
        warm_start_from: See Estimator.
        loss_reduction: See DNNClassifier.
        batch_norm: See DNNClassifier.

    Raises:
        ValueError: label_dimension is below 1, or another argument is not valid.
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        feature_columns: Iterable[Any],
        model_dir: str | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        optimizer: Any = "Adagrad",
        activation_fn: Callable[[Any], Any] | str | None = tf.nn.relu,
        dropout: float | None = None,
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = "sum_over_batch_size",
        batch_norm: bool = False,
    ) -> None:
        head = RegressionHead(label_dimension, weight_column=weight_column, loss_reduction=loss_reduction)
        part = network_part(feature_columns, hidden_units, optimizer, activation_fn, dropout, batch_norm=batch_norm)
        super().__init__(make_model_fn(head, [part]), model_dir, config, warm_start_from=warm_start_from)


class DNNEstimator(Estimator):
    """Fully connected hidden layers under a head of one's choice; a re-creation of tf.estimator.DNNEstimator.

    Args:
        head: What turns the logits into loss, predictions and metrics.
        hidden_units: See DNNClassifier.
        feature_columns: See DNNClassifier.
        model_dir: See Estimator.
        optimizer: See DNNClassifier.
        activation_fn: See DNNClassifier.
        dropout: See DNNClassifier.
        config: See Estimator.
        warm_start_from: See Estimator.
        batch_norm: See DNNClassifier.
    """

    def __init__(
        self,
        head: Head,
        hidden_units: Sequence[int],
        feature_columns: Iterable[Any],
        model_dir: str | None = None,
        optimizer: Any = "Adagrad",
        activation_fn: Callable[[Any], Any] | str | None = tf.nn.relu,
        dropout: float | None = None,
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        batch_norm: bool = False,
    ) -> None:
        part = network_part(feature_columns, hidden_units, optimizer, activation_fn, dropout, batch_norm=batch_norm)
        super().__init__(make_model_fn(head, [part]), model_dir, config, warm_start_from=warm_start_from)


def network_part(
    feature_columns: Iterable[Any],
    hidden_units: Iterable[int],
    optimizer: Any,
    activation_fn: Callable[[Any], Any] | str | None,
    dropout: float | None,
    *,
    batch_norm: bool,
    learning_rate: float = _LEARNING_RATE,
) -> Part:
    """The part that is a network, under the scope `dnn`.

    Args:
        feature_columns: See DNNClassifier.
        hidden_units: See DNNClassifier.
        optimizer: See DNNClassifier.
        activation_fn: See DNNClassifier.
        dropout: See DNNClassifier.
        batch_norm: See DNNClassifier.
        learning_rate: Of an optimizer given by name.
    """
    columns, sizes = tuple(feature_columns or ()), tuple(hidden_units)

    def build(features: dict[str, Any], mode: str, units: int) -> Logits:
        with tf.name_scope("dnn"):
            return build_network(
                features,
                mode,
                units,
                feature_columns=columns,
                hidden_units=sizes,
                activation_fn=activation_fn,
                dropout=dropout,
                batch_norm=batch_norm,
            )

    return Part(build, optimizer, learning_rate)
