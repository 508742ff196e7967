"""Weights of the examples, from the features."""

from typing import Any

import tensorflow as tf

# TensorFlow exports the class of numeric columns under no name.
from tensorflow.python.feature_column.feature_column_v2 import NumericColumn

from runner.estimator.heads.agreement import with_equal_shapes

__all__ = ["example_weights"]

_v1 = tf.compat.v1


def example_weights(features: Any, weight_column: Any, logits: Any, *, per_logit: bool = False) -> Any:
    """The weights of a batch.

    Args:
        features: Tensors by name.
        weight_column: Name or numeric column of the weights; None weighs all examples alike.
        logits: `[D0, ..., DN, logits_dimension]`.
        per_logit: Whether weights may have the shape of the logits.

    Returns:
        `[D0, ..., DN, 1] float32`, or that of the logits; None if there is no weight column.

    Raises:
        TypeError: The column is neither a name nor a numeric column.
        ValueError: The features lack it, or its values are no numbers.
        InvalidArgumentError: The shapes do not fit, in a graph; a ValueError in eager code.
    """
    if weight_column is None:
        return None
    with tf.name_scope("weights"):
        weights = _values(features, weight_column)
        given, of_logits = _v1.shape(weights), _v1.shape(logits)
        if weights.shape.rank is not None and weights.shape.rank + 1 == logits.shape.rank:
            return tf.expand_dims(_checked(weights, given, of_logits[:-1], per_logit=per_logit), -1)
        last = tf.where(tf.equal(given[-1:], 1), 1, of_logits[-1:]) if per_logit else [1]
        return _checked(weights, given, tf.concat([of_logits[:-1], last], axis=0), per_logit=per_logit)


def _values(features: Any, column: Any) -> Any:
    if isinstance(column, str):
        column = tf.feature_column.numeric_column(column)
    if not isinstance(column, NumericColumn):
        raise TypeError(f"Weight column must be either a string or NumericColumn. Given type: {type(column)}.")
    cache = tf.__internal__.feature_column.FeatureTransformationCache(features)
    weights = column.get_dense_tensor(cache, None)
    if not (weights.dtype.is_floating or weights.dtype.is_integer):
        raise ValueError(f"Weight column should be castable to float. Given dtype: {weights.dtype}")
    return tf.cast(weights, tf.float32)


def _checked(weights: Any, given: Any, expected: Any, *, per_logit: bool) -> Any:
    message = "weights shape must be [D0, D1, ... DN] or [D0, D1, ... DN, 1]"
    if per_logit:
        message = "weights shape must be [D0, D1, ... DN], [D0, D1, ... DN, 1] or [D0, D1, ... DN, logits_dimension]"
    return with_equal_shapes(weights, ("logits_shape", expected), ("weights_shape", given), message=message)
