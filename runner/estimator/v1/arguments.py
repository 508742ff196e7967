"""Arguments of TensorFlow 1 in the terms of today."""

import logging
from typing import Any

import tensorflow as tf

__all__ = ["current_reduction", "warn_of_partitioner"]

_logger = logging.getLogger("tensorflow")
_Reduction = tf.compat.v1.losses.Reduction

_REDUCTIONS = {
    _Reduction.SUM: "sum",
    _Reduction.SUM_OVER_BATCH_SIZE: "sum_over_batch_size",
    _Reduction.MEAN: _Reduction.MEAN,
    _Reduction.SUM_BY_NONZERO_WEIGHTS: _Reduction.SUM_BY_NONZERO_WEIGHTS,
}


def current_reduction(loss_reduction: str) -> str:
    """The name that heads have for a reduction of tf.compat.v1.losses.

    Raises:
        ValueError: It is none, or NONE, which leaves no scalar.
    """
    if loss_reduction not in _REDUCTIONS:
        raise ValueError(f"Invalid loss_reduction: {loss_reduction}")
    return _REDUCTIONS[loss_reduction]


def warn_of_partitioner(name: str, partitioner: Any) -> None:
    """Says in the log that a partitioner has no effect: no variable is spread over parameter servers."""
    if partitioner is not None:
        _logger.warning("%s is not used: every task holds whole variables, and none is a parameter server.", name)
