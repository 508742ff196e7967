"""Linear* with the arguments of TensorFlow 1."""

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.canned import linear as current
from runner.estimator.canned.partitioners import warn_of_partitioner
from runner.estimator.estimator_v1 import Estimator
from runner.estimator.heads.head import Head
from runner.estimator.run_config import RunConfig
from runner.estimator.v1.arguments import current_reduction
from runner.estimator.warm_start import WarmStartSettings

__all__ = ["LinearClassifier", "LinearEstimator", "LinearRegressor"]


class LinearClassifier(current.LinearClassifier, Estimator):
    """LinearClassifier with the arguments of tf.compat.v1.estimator.LinearClassifier.

    Args:
        feature_columns: See runner.estimator.LinearClassifier, as for all that are not said here.
        partitioner: Accepted, and not used, with a warning: every task holds whole variables.
        loss_reduction: One of tf.compat.v1.losses.Reduction but NONE; by default the sum over the batch.

    Raises:
        ValueError: An argument is not valid.
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
        partitioner: Any = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = tf.compat.v1.losses.Reduction.SUM,
        sparse_combiner: str = "sum",
    ) -> None:
        warn_of_partitioner("partitioner", partitioner)
        super().__init__(
            feature_columns=feature_columns,
            model_dir=model_dir,
            n_classes=n_classes,
            weight_column=weight_column,
            label_vocabulary=label_vocabulary,
            optimizer=optimizer,
            config=config,
            warm_start_from=warm_start_from,
            loss_reduction=current_reduction(loss_reduction),
            sparse_combiner=sparse_combiner,
        )


class LinearEstimator(current.LinearEstimator, Estimator):
    """LinearEstimator with the arguments of tf.compat.v1.estimator.LinearEstimator.

    Args:
        head: See runner.estimator.LinearEstimator, as for all that are not said here.
        partitioner: Accepted, and not used, with a warning: every task holds whole variables.

    Raises:
        ValueError: An argument is not valid.
    """

    def __init__(
        self,
        head: Head,
        feature_columns: Iterable[Any],
        model_dir: str | None = None,
        optimizer: Any = "Ftrl",
        config: RunConfig | None = None,
        partitioner: Any = None,
        sparse_combiner: str = "sum",
        warm_start_from: str | WarmStartSettings | None = None,
    ) -> None:
        warn_of_partitioner("partitioner", partitioner)
        super().__init__(
            head=head,
            feature_columns=feature_columns,
            model_dir=model_dir,
            optimizer=optimizer,
            config=config,
            sparse_combiner=sparse_combiner,
            warm_start_from=warm_start_from,
        )


class LinearRegressor(current.LinearRegressor, Estimator):
    """LinearRegressor with the arguments of tf.compat.v1.estimator.LinearRegressor.

    Args:
        feature_columns: See runner.estimator.LinearRegressor, as for all that are not said here.
        partitioner: Accepted, and not used, with a warning: every task holds whole variables.
        loss_reduction: One of tf.compat.v1.losses.Reduction but NONE; by default the sum over the batch.

    Raises:
        ValueError: An argument is not valid.
    """

    def __init__(
        self,
        feature_columns: Iterable[Any],
        model_dir: str | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        optimizer: Any = "Ftrl",
        config: RunConfig | None = None,
        partitioner: Any = None,
        warm_start_from: str | WarmStartSettings | None = None,
        loss_reduction: str = tf.compat.v1.losses.Reduction.SUM,
        sparse_combiner: str = "sum",
    ) -> None:
        warn_of_partitioner("partitioner", partitioner)
        super().__init__(
            feature_columns=feature_columns,
            model_dir=model_dir,
            label_dimension=label_dimension,
            weight_column=weight_column,
            optimizer=optimizer,
            config=config,
            warm_start_from=warm_start_from,
            loss_reduction=current_reduction(loss_reduction),
            sparse_combiner=sparse_combiner,
        )
