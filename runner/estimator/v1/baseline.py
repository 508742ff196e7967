"""Baseline* with the arguments of TensorFlow 1."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.canned import baseline as current
from runner.estimator.estimator_v1 import Estimator
from runner.estimator.run_config import RunConfig
from runner.estimator.v1.arguments import current_reduction

__all__ = ["BaselineClassifier", "BaselineEstimator", "BaselineRegressor"]


class BaselineClassifier(current.BaselineClassifier, Estimator):
    """BaselineClassifier with the arguments of tf.compat.v1.estimator.BaselineClassifier.

    Args:
        model_dir: See runner.estimator.BaselineClassifier, as for all that are not said here.
        loss_reduction: One of tf.compat.v1.losses.Reduction but NONE; by default the sum over the batch.

    Raises:
        ValueError: An argument is not valid.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: Any = "Ftrl",
        config: RunConfig | None = None,
        loss_reduction: str = tf.compat.v1.losses.Reduction.SUM,
    ) -> None:
        super().__init__(
            model_dir=model_dir,
            n_classes=n_classes,
            weight_column=weight_column,
            label_vocabulary=label_vocabulary,
            optimizer=optimizer,
            config=config,
            loss_reduction=current_reduction(loss_reduction),
        )


class BaselineEstimator(current.BaselineEstimator, Estimator):
    """BaselineEstimator, whose arguments are those of today."""


class BaselineRegressor(current.BaselineRegressor, Estimator):
    """BaselineRegressor with the arguments of tf.compat.v1.estimator.BaselineRegressor.

    Args:
        model_dir: See runner.estimator.BaselineRegressor, as for all that are not said here.
        loss_reduction: One of tf.compat.v1.losses.Reduction but NONE; by default the sum over the batch.

    Raises:
        ValueError: An argument is not valid.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        optimizer: Any = "Ftrl",
        config: RunConfig | None = None,
        loss_reduction: str = tf.compat.v1.losses.Reduction.SUM,
    ) -> None:
        super().__init__(
            model_dir=model_dir,
            label_dimension=label_dimension,
            weight_column=weight_column,
            optimizer=optimizer,
            config=config,
            loss_reduction=current_reduction(loss_reduction),
        )
