"""Checks of what only the running graph knows, and their eager twins."""

from typing import Any

import tensorflow as tf

__all__ = ["with_equal_shapes", "within"]


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
    data = [f"{message} {expected_name}: ", expected_shape, f"{given_name}: ", given_shape]
    same = tf.raw_ops.Equal(x=expected_shape, y=given_shape, incompatible_shape_error=False)
    with tf.control_dependencies([_assert(same, data)]):
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
    x = f"did not hold element-wise: x ({tensor.name}) = "
    with tf.device("/CPU:0"):  # where input pipelines and the op that fails are: a GPU would send the values back
        checks = [
            _assert(tensor <= last, [f"{too_large} Condition x <= {last} {x}", tensor]),
            _assert(tensor >= 0, [f"{negative} Condition x >= 0 {x}", tensor]),
        ]
    with tf.control_dependencies(checks):
        return tf.identity(tensor)


def _assert(condition: Any, data: list[Any]) -> Any:
    """An op that fails with the data if any element of the condition is False.

    The op itself, not tf.debugging: that hides it in a conditional, which costs more time in each step than this check.
    """
    return tf.raw_ops.Assert(condition=tf.reduce_all(condition), data=data, summarize=3)
