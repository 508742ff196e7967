"""What an input_fn returns, as tensors of the graph: called, sharded over the replicas, and iterated."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from runner.estimator.hooks import IteratorHook

__all__ = ["Batch", "call_input_fn", "make_batch"]

_v1 = tf.compat.v1


class Batch(NamedTuple):
    """One batch of the input, as tensors.

    Attributes:
        features: What model_fn gets as features.
        labels: What it gets as labels; None if there are none.
        valid: bool scalar, False once this replica's input has ended; None where the end of the input is an error of
            the step, which it is unless there are other replicas.
        hooks: Hooks that the input needs.
    """

    features: Any
    labels: Any
    valid: Any
    hooks: list[Any]


def call_input_fn(input_fn: Callable[..., Any], **available: Any) -> Any:
    """Calls an input_fn with those of mode, params, config and input_context that it takes."""
    parameters = inspect.signature(input_fn).parameters
    return input_fn(**{name: value for name, value in available.items() if name in parameters})


def takes_input_context(input_fn: Callable[..., Any]) -> bool:
    """Whether an input_fn shards its data itself."""
    return "input_context" in inspect.signature(input_fn).parameters


def make_batch(result: Any, *, flag_end: bool = False) -> Batch:
    """Turns what an input_fn returned into tensors.

    Args:
        result: A tf.data.Dataset, or tensors: (features, labels) or features alone.
        flag_end: Repeat the first batch for ever after the end of a dataset, flagged as not valid, so that all replicas
            can agree to end at the same step.

    Raises:
        ValueError: A tuple has neither one nor two elements.
    """
    if not isinstance(result, tf.data.Dataset):
        return Batch(*_features_and_labels(result), valid=tf.constant(value=True) if flag_end else None, hooks=[])
    iterator = _v1.data.make_initializable_iterator(_flagged(result) if flag_end else result)
    hooks = [IteratorHook(iterator.initializer)]
    if not flag_end:
        return Batch(*_features_and_labels(iterator.get_next()), valid=None, hooks=hooks)
    valid, element = iterator.get_next()
    return Batch(*_features_and_labels(element), valid=valid, hooks=hooks)


def _flagged(dataset: tf.data.Dataset) -> tf.data.Dataset:
    def flag(*, valid: bool) -> Callable[..., Any]:
        return lambda *element: (valid, element[0] if len(element) == 1 else element)

    return dataset.map(flag(valid=True)).concatenate(dataset.take(1).repeat().map(flag(valid=False)))


def _features_and_labels(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, (list, tuple)):
        return result, None
    if len(result) not in (1, 2):
        raise ValueError(
            f"input_fn should return (features, labels), or features alone; it returned {len(result)} values."
        )
    return result[0], result[1] if len(result) > 1 else None
