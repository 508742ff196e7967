"""Arguments of TensorFlow 1 in the terms of today."""

import tensorflow as tf

from runner.estimator.heads.losses import ReductionByWeights

__all__ = ["current_reduction"]

_Reduction = tf.compat.v1.losses.Reduction

_REDUCTIONS = {
    _Reduction.SUM: "sum",
    _Reduction.SUM_OVER_BATCH_SIZE: "sum_over_batch_size",
    _Reduction.MEAN: ReductionByWeights.MEAN,
    _Reduction.SUM_BY_NONZERO_WEIGHTS: ReductionByWeights.SUM_BY_NONZERO_WEIGHTS,
}


def current_reduction(loss_reduction: str) -> str:
    """The name that heads have for a reduction of tf.compat.v1.losses.

    Raises:
        ValueError: It is none, or NONE, which leaves no scalar.
    """
    if loss_reduction not in _REDUCTIONS:
        raise ValueError(f"Invalid loss_reduction: {loss_reduction}")
    return _REDUCTIONS[loss_reduction]
