"""The training op of a head, and the summaries that go with it."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from runner.estimator.canned.optimizers import minimize

__all__ = ["make_train_op", "summarize_losses"]

_v1 = tf.compat.v1
_OPTIMIZERS = (tf_keras.optimizers.legacy.Optimizer, _v1.train.Optimizer)


def make_train_op(
    loss: Any,
    *,
    optimizer: Any,
    trainable_variables: Sequence[Any] | None,
    train_op_fn: Callable[[Any], Any] | None,
    update_ops: Sequence[Any] | None,
) -> Any:
    """The op of one training step, from an optimizer or a train_op_fn.

    Args:
        loss: Scalar.
        optimizer: A tf_keras legacy optimizer or a tf.compat.v1.train.Optimizer; also counts the global step.
        trainable_variables: What the optimizer updates.
        train_op_fn: Makes the op of the loss.
        update_ops: Operations that run with each step.

    Raises:
        ValueError: Neither an optimizer nor a train_op_fn is given, or both are, or an argument has the wrong type.
    """
    _check_sequence("update_ops", update_ops)
    # A root scope: the names of the slots begin with it. The second head of a graph has `training_1`.
    with tf.name_scope(""), tf.name_scope("training"):
        if optimizer is not None:
            if train_op_fn is not None:
                raise ValueError("train_op_fn and optimizer cannot both be set.")
            _check_optimizer(optimizer)
            if trainable_variables is None:
                raise ValueError(f"trainable_variables cannot be None. Given {trainable_variables}")
            _check_sequence("trainable_variables", trainable_variables)
            train_op = minimize(optimizer, loss, list(trainable_variables))
        elif train_op_fn is not None:
            train_op = train_op_fn(loss)
        else:
            raise ValueError("train_op_fn and optimizer cannot both be None.")
        return tf.group(train_op, *update_ops) if update_ops else train_op


def summarize_losses(loss: Any, regularization_losses: Sequence[Any] | None, *, head_name: str | None) -> None:
    """Summaries of the loss and of what regularization adds to it.

    Args:
        loss: Scalar.
        regularization_losses: Scalars, or None.
        head_name: Suffix of the tags. Without one there is none of the loss here: training adds that of the whole
            model, which is the mean over its replicas.
    """
    suffix = f"/{head_name}" if head_name else ""
    with tf.name_scope(""):
        if suffix:
            _v1.summary.scalar(f"loss{suffix}", loss)
        if regularization_losses is not None:
            _v1.summary.scalar(f"regularization_loss{suffix}", tf.add_n(regularization_losses))


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, _OPTIMIZERS):
        raise ValueError(  # noqa: TRY004 - the original raises it
            "The given optimizer is not a tf.keras.optimizers.Optimizer instance. Received optimizer of type "
            f"{type(optimizer)}. In a graph, use one of tf_keras.optimizers.legacy or tf.compat.v1.train."
        )


def _check_sequence(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} should be a list or a tuple. Given type: {type(value)}.")
