"""From the losses of examples to the loss of a batch."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import tensorflow as tf

from runner.estimator.signatures import argument_names

__all__ = [
    "ReductionByWeights",
    "call_loss_fn",
    "check_loss_fn",
    "check_loss_reduction",
    "reduce_losses",
    "regularized",
]

_v1 = tf.compat.v1
_REDUCTIONS = ("auto", "sum", "sum_over_batch_size")


class ReductionByWeights(StrEnum):
    """The reductions of TensorFlow 1 that tf.losses has no name for; only the v1 estimators give them to a head."""

    MEAN = tf.compat.v1.losses.Reduction.MEAN
    SUM_BY_NONZERO_WEIGHTS = tf.compat.v1.losses.Reduction.SUM_BY_NONZERO_WEIGHTS


def check_loss_reduction(loss_reduction: str) -> None:
    """Refuses a reduction that leaves no scalar.

    Raises:
        ValueError: It is none of "sum_over_batch_size", "sum" and "auto", which means the first, and no
            ReductionByWeights. The name of one, as a plain string, is refused as in the original.
    """
    if loss_reduction not in _REDUCTIONS and not isinstance(loss_reduction, ReductionByWeights):
        raise ValueError(
            f"Invalid loss_reduction: {loss_reduction}. See `tf.losses.Reduction` for valid options. "
            f"They are {', '.join(_REDUCTIONS)}."
        )


def check_loss_fn(loss_fn: Callable[..., Any]) -> None:
    """Refuses a loss_fn that cannot be called.

    Raises:
        ValueError: It does not take labels and logits, or takes what there is not.
    """
    names = argument_names(loss_fn)
    for required in ("labels", "logits"):
        if required not in names:
            raise ValueError(f"loss_fn must contain argument: {required}. Given arguments: {names}")
    unexpected = sorted(set(names) - {"labels", "logits", "features", "loss_reduction"})
    if unexpected:
        raise ValueError(f"loss_fn has unexpected args: {unexpected}")


def call_loss_fn(loss_fn: Callable[..., Any], labels: Any, logits: Any, features: Any, *, dimension: int) -> Any:
    """The losses that a user's function makes of a batch.

    Args:
        loss_fn: Takes `labels` and `logits`, and may take `features`.
        labels: As the head understands them.
        logits: `[D0, ..., DN, logits_dimension]`.
        features: Tensors by name.
        dimension: Size of the last dimension of the losses.

    Returns:
        `[D0, ..., DN, dimension]`.

    Raises:
        InvalidArgumentError: They have another shape, when the graph runs; a ValueError in eager code.
    """
    given = {"features": features} if "features" in argument_names(loss_fn) else {}
    with tf.name_scope("call_loss_fn"):
        losses = loss_fn(labels=labels, logits=logits, **given)
        message = f"loss_fn must return Tensor of shape [D0, D1, ... DN, {dimension}]. "
        if tf.executing_eagerly():
            if tuple(losses.shape) != (*logits.shape[:-1], dimension):
                raise ValueError(message, "logits_shape: ", tuple(logits.shape), "loss_shape: ", tuple(losses.shape))
            return losses
        shape, logits_shape = _v1.shape(losses), _v1.shape(logits)
        same = tf.reduce_all(tf.equal(shape, tf.concat([logits_shape[:-1], [dimension]], axis=0)))
        check = tf.debugging.Assert(same, [message, "logits_shape: ", logits_shape, "loss_shape: ", shape])
        with tf.control_dependencies([check]):
            return tf.identity(losses)


def reduce_losses(losses: Any, weights: Any, loss_reduction: str) -> Any:
    """The loss of a batch: the weighted sum, or that divided by the number of losses, or by what the weights say.

    Args:
        losses: `[D0, ..., DN, K]`.
        weights: `[D0, ..., DN, K]`, or 1 in place of K; None for 1.
        loss_reduction: One that check_loss_reduction lets through.

    Returns:
        A scalar `float32`.
    """
    # Names as in the original, so that hooks that know a tensor by its name find it.
    with tf.name_scope("weighted_loss"):
        weighted = losses if weights is None else losses * weights
        total = tf.reduce_sum(weighted)
        if loss_reduction == "sum":
            return total
        if isinstance(loss_reduction, ReductionByWeights) and weights is not None:
            weights = tf.broadcast_to(weights, tf.shape(losses))
            is_mean = loss_reduction is ReductionByWeights.MEAN
            divisor = tf.reduce_sum(weights) if is_mean else tf.math.count_nonzero(weights, dtype=total.dtype)
            return tf.math.divide_no_nan(total, divisor, name="value")
        size = tf.cast(tf.size(weighted), total.dtype, name="num_elements")
        return tf.math.divide_no_nan(total, size, name="value")


def regularized(loss: Any, regularization_losses: Sequence[Any] | None) -> Any:
    """The loss with the regularization losses added, if there are any."""
    return loss if regularization_losses is None else loss + tf.add_n(regularization_losses)
