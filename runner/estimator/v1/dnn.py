"""DNN* with the arguments of TensorFlow 1."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.canned import dnn as current
from runner.estimator.canned.partitioners import warn_of_partitioner
from runner.estimator.estimator_v1 import Estimator
from runner.estimator.heads.head import Head
from runner.estimator.run_config import RunConfig
from runner.estimator.v1.arguments import current_reduction
from runner.estimator.warm_start import WarmStartSettings

__all__ = ["DNNClassifier", "DNNEstimator", "DNNRegressor"]


class DNNClassifier(current.DNNClassifier, Estimator):
    """DNNClassifier with the arguments of tf.compat.v1.estimator.DNNClassifier.

    Args:
        hidden_units: See runner.estimator.DNNClassifier, as for all that are not said here.
        input_layer_partitioner: Accepted, and not used, with a warning: every task holds whole variables.
        loss_reduction: One of tf.compat.v1.losses.Reduction but NONE; by default the sum over the batch.

    Raises:
        ValueError: An argument is not valid.
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
        input_layer_partitioner: Any = None,
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = tf.compat.v1.losses.Reduction.SUM,
        batch_norm: bool = False,
    ) -> None:
        warn_of_partitioner("input_layer_partitioner", input_layer_partitioner)
        super().__init__(
            hidden_units=hidden_units,
            feature_columns=feature_columns,
            model_dir=model_dir,
            n_classes=n_classes,
            weight_column=weight_column,
            label_vocabulary=label_vocabulary,
            optimizer=optimizer,
            activation_fn=activation_fn,
            dropout=dropout,
            config=config,
            warm_start_from=warm_start_from,
            loss_reduction=current_reduction(loss_reduction),
            batch_norm=batch_norm,
        )


class DNNEstimator(current.DNNEstimator, Estimator):
    """DNNEstimator with the arguments of tf.compat.v1.estimator.DNNEstimator.

    Args:
        head: See runner.estimator.DNNEstimator, as for all that are not said here.
        input_layer_partitioner: Accepted, and not used, with a warning: every task holds whole variables.

    Raises:
        ValueError: An argument is not valid.
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
        input_layer_partitioner: Any = None,
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        batch_norm: bool = False,
    ) -> None:
        warn_of_partitioner("input_layer_partitioner", input_layer_partitioner)
        super().__init__(
            head=head,
            hidden_units=hidden_units,
            feature_columns=feature_columns,
            model_dir=model_dir,
            optimizer=optimizer,
            activation_fn=activation_fn,
            dropout=dropout,
            config=config,
            warm_start_from=warm_start_from,
            batch_norm=batch_norm,
        )


class DNNRegressor(current.DNNRegressor, Estimator):
    """DNNRegressor with the arguments of tf.compat.v1.estimator.DNNRegressor.

    Args:
        hidden_units: See runner.estimator.DNNRegressor, as for all that are not said here.
        input_layer_partitioner: Accepted, and not used, with a warning: every task holds whole variables.
        loss_reduction: One of tf.compat.v1.losses.Reduction but NONE; by default the sum over the batch.

    Raises:
        ValueError: An argument is not valid.
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
        input_layer_partitioner: Any = None,
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = tf.compat.v1.losses.Reduction.SUM,
        batch_norm: bool = False,
    ) -> None:
        warn_of_partitioner("input_layer_partitioner", input_layer_partitioner)
        super().__init__(
            hidden_units=hidden_units,
            feature_columns=feature_columns,
            model_dir=model_dir,
            label_dimension=label_dimension,
            weight_column=weight_column,
            optimizer=optimizer,
            activation_fn=activation_fn,
            dropout=dropout,
            config=config,
            warm_start_from=warm_start_from,
            loss_reduction=current_reduction(loss_reduction),
            batch_norm=batch_norm,
        )
