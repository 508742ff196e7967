"""Checks of what only the running graph knows, and their eager twins."""

from typing import Any

import tensorflow as tf

__all__ = ["with_equal_shapes", "within"]

_v1 = tf.compat.v1


def with_equal_shapes(tensor: Any, expected: tuple[str, Any], given: tuple[str, Any], *, message: str) -> Any:
    """The tensor, after a check that two shapes are the same.

    Args:
        tensor: Returned as it is.
        expected: Name and `[rank] int32` of the shape that is needed.
        given: Name and `[rank] int32` of the shape that is there.
        message: Of the error.

    Raises:
        ValueError: They differ, in eager code.
        InvalidArgumentError: They differ, in a graph; raised here if both are known before the graph runs.
    """
    (expected_name, expected_shape), (given_name, given_shape) = expected, given
    if tf.executing_eagerly():
        shapes = tuple(expected_shape.numpy().tolist()), tuple(given_shape.numpy().tolist())
        if shapes[0] != shapes[1]:
            raise ValueError(f"{message}, {expected_name}: {shapes[0]}. {given_name}: {shapes[1]}.")
        return tensor
    data = [f"{expected_name}: ", expected_shape, f"{given_name}: ", given_shape]
    check = _v1.debugging.assert_equal(expected_shape, given_shape, message=message, data=data)
    with tf.control_dependencies([check]):
        return tf.identity(tensor)


def within(tensor: Any, last: int, *, too_large: str, negative: str) -> Any:
    """The tensor, after a check that its values are from 0 to `last`.

    Args:
        tensor: Numbers of any shape.
        last: The largest value.
        too_large: Message of the error for larger values.
        negative: Message of the error for values below 0.

    Raises:
        ValueError: In eager code.
        InvalidArgumentError: In a graph, when it runs.
    """
    if tf.executing_eagerly():
        if tf.reduce_any(tensor > tf.cast(last, tensor.dtype)):
            raise ValueError(f"{too_large}. Given: {tensor.numpy().tolist()}")
        if tf.reduce_any(tensor < 0):
            raise ValueError(f"{negative}. Given: {tensor.numpy().tolist()}")
        return tensor
    checks = [
        _v1.debugging.assert_less_equal(tensor, tf.constant(last, tensor.dtype), message=too_large),
        _v1.debugging.assert_non_negative(tensor, message=negative),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(tensor)
