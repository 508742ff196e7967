"""DNNLinearCombined* with the arguments of TensorFlow 1."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.canned import dnn_linear_combined as current
from runner.estimator.canned.partitioners import warn_of_partitioner
from runner.estimator.estimator_v1 import Estimator
from runner.estimator.heads.head import Head
from runner.estimator.run_config import RunConfig
from runner.estimator.v1.arguments import current_reduction
from runner.estimator.warm_start import WarmStartSettings

__all__ = ["DNNLinearCombinedClassifier", "DNNLinearCombinedEstimator", "DNNLinearCombinedRegressor"]


class DNNLinearCombinedClassifier(current.DNNLinearCombinedClassifier, Estimator):
    """DNNLinearCombinedClassifier with the arguments of tf.compat.v1.estimator.DNNLinearCombinedClassifier.

    Args:
        model_dir: See runner.estimator.DNNLinearCombinedClassifier, as for all that are not said here.
        input_layer_partitioner: Accepted, and not used, with a warning: every task holds whole variables.
        loss_reduction: One of tf.compat.v1.losses.Reduction but NONE; by default the sum over the batch.

    Raises:
        ValueError: An argument is not valid.
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
        input_layer_partitioner: Any = None,
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = tf.compat.v1.losses.Reduction.SUM,
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        warn_of_partitioner("input_layer_partitioner", input_layer_partitioner)
        super().__init__(
            model_dir=model_dir,
            linear_feature_columns=linear_feature_columns,
            linear_optimizer=linear_optimizer,
            dnn_feature_columns=dnn_feature_columns,
            dnn_optimizer=dnn_optimizer,
            dnn_hidden_units=dnn_hidden_units,
            dnn_activation_fn=dnn_activation_fn,
            dnn_dropout=dnn_dropout,
            n_classes=n_classes,
            weight_column=weight_column,
            label_vocabulary=label_vocabulary,
            config=config,
            warm_start_from=warm_start_from,
            loss_reduction=current_reduction(loss_reduction),
            batch_norm=batch_norm,
            linear_sparse_combiner=linear_sparse_combiner,
        )


class DNNLinearCombinedEstimator(current.DNNLinearCombinedEstimator, Estimator):
    """DNNLinearCombinedEstimator with the arguments of tf.compat.v1.estimator.DNNLinearCombinedEstimator.

    Args:
        head: See runner.estimator.DNNLinearCombinedEstimator, as for all that are not said here.
        input_layer_partitioner: Accepted, and not used, with a warning: every task holds whole variables.

    Raises:
        ValueError: An argument is not valid.
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
        input_layer_partitioner: Any = None,
        config: RunConfig | None = None,
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        warn_of_partitioner("input_layer_partitioner", input_layer_partitioner)
        super().__init__(
            head=head,
            model_dir=model_dir,
            linear_feature_columns=linear_feature_columns,
            linear_optimizer=linear_optimizer,
            dnn_feature_columns=dnn_feature_columns,
            dnn_optimizer=dnn_optimizer,
            dnn_hidden_units=dnn_hidden_units,
            dnn_activation_fn=dnn_activation_fn,
            dnn_dropout=dnn_dropout,
            config=config,
            batch_norm=batch_norm,
            linear_sparse_combiner=linear_sparse_combiner,
        )


class DNNLinearCombinedRegressor(current.DNNLinearCombinedRegressor, Estimator):
    """DNNLinearCombinedRegressor with the arguments of tf.compat.v1.estimator.DNNLinearCombinedRegressor.

    Args:
        model_dir: See runner.estimator.DNNLinearCombinedRegressor, as for all that are not said here.
        input_layer_partitioner: Accepted, and not used, with a warning: every task holds whole variables.
        loss_reduction: One of tf.compat.v1.losses.Reduction but NONE; by default the sum over the batch.

    Raises:
        ValueError: An argument is not valid.
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
        input_layer_partitioner: Any = None,
        config: RunConfig | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = tf.compat.v1.losses.Reduction.SUM,
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        warn_of_partitioner("input_layer_partitioner", input_layer_partitioner)
        super().__init__(
            model_dir=model_dir,
            linear_feature_columns=linear_feature_columns,
            linear_optimizer=linear_optimizer,
            dnn_feature_columns=dnn_feature_columns,
            dnn_optimizer=dnn_optimizer,
            dnn_hidden_units=dnn_hidden_units,
            dnn_activation_fn=dnn_activation_fn,
            dnn_dropout=dnn_dropout,
            label_dimension=label_dimension,
            weight_column=weight_column,
            config=config,
            warm_start_from=warm_start_from,
            loss_reduction=current_reduction(loss_reduction),
            batch_norm=batch_norm,
            linear_sparse_combiner=linear_sparse_combiner,
        )
