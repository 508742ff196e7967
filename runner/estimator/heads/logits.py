"""Logits as a head needs them."""

from typing import Any

import tensorflow as tf

__all__ = ["checked_logits"]

_v1 = tf.compat.v1
_MESSAGE = "logits shape must be [D0, D1, ... DN, logits_dimension]"


def checked_logits(logits: Any, dimension: int) -> Any:
    """Logits as `float32`, whose last dimension is that of the head.

    Args:
        logits: `[D0, ..., DN, dimension]`, anything that becomes a tensor.
        dimension: The head's logits_dimension.

    Raises:
        ValueError: The rank is below 2, or the last dimension is known and another.
        InvalidArgumentError: The same, of a shape that only the running graph knows.
    """
    with tf.name_scope("logits"):
        logits = tf.cast(logits, tf.float32)
        rank = logits.shape.rank
        if rank is not None and rank < 2:  # noqa: PLR2004 - examples, and their logits
            raise ValueError(
                f"logits must have rank at least 2.  Received rank {rank}, shape {logits.shape}. {_MESSAGE}"
            )
        if rank is not None and logits.shape[-1] is not None:
            if logits.shape[-1] != dimension:
                raise ValueError(f"{_MESSAGE}, got {logits.shape}.")
            return logits
        shape = tf.shape(logits)
        checks = [_v1.debugging.assert_rank_at_least(logits, 2, data=[shape], message=_MESSAGE)]
        with tf.control_dependencies(checks):
            checks = [_v1.debugging.assert_equal(dimension, shape[-1], data=[shape], message=_MESSAGE)]
        with tf.control_dependencies(checks):
            return tf.identity(logits)
