"""What an input_fn returns, as tensors of the graph: called, sharded over the replicas, and iterated."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from runner.estimator.hooks.training_hooks import IteratorHook
from runner.estimator.signatures import argument_names

__all__ = ["Batch", "call_input_fn", "make_batch", "takes_input_context"]

_v1 = tf.compat.v1


class Batch(NamedTuple):
    """One batch of the input, as tensors.

    Attributes:
        features: What model_fn gets as features.
        labels: What it gets as labels; None if there are none.
        hooks: Hooks that the input needs.
        initializer: The operation that begins the iterator of a dataset; None for other inputs.
    """

    features: Any
    labels: Any
    hooks: list[Any]
    initializer: Any = None


def call_input_fn(input_fn: Callable[..., Any], **available: Any) -> Any:
    """Calls an input_fn with those of mode, params, config and input_context that it takes."""
    return input_fn(**{name: available[name] for name in argument_names(input_fn) if name in available})


def takes_input_context(input_fn: Callable[..., Any]) -> bool:
    """Whether an input_fn shards its data itself."""
    return "input_context" in argument_names(input_fn)


def make_batch(result: Any) -> Batch:
    """Turns what an input_fn returned into tensors.

    Args:
        result: A tf.data.Dataset, or tensors: the pair (features, labels), or features alone.

    Raises:
        ValueError: A tuple has not two elements.
    """
    if not isinstance(result, tf.data.Dataset):
        return Batch(*_features_and_labels(result), hooks=[])
    iterator = _v1.data.make_initializable_iterator(result)
    return Batch(*_features_and_labels(iterator.get_next()), [IteratorHook(iterator.initializer)], iterator.initializer)


def _features_and_labels(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, (list, tuple)):
        return result, None
    if len(result) != 2:  # noqa: PLR2004 - features and labels
        raise ValueError("input_fn should return (features, labels) as a len 2 tuple.")
    return result[0], result[1]
