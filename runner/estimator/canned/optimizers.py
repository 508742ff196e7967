"""Optimizers of the canned estimators: from a name, a callable, or an instance."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

__all__ = ["OPTIMIZER_NAMES", "make_optimizer", "minimize"]

_legacy = tf_keras.optimizers.legacy

OPTIMIZER_NAMES: dict[str, Callable[..., Any]] = {
    "Adagrad": _legacy.Adagrad,
    "Adam": _legacy.Adam,
    "Ftrl": _legacy.Ftrl,
    "RMSProp": _legacy.RMSprop,
    "SGD": _legacy.SGD,
}


def make_optimizer(optimizer: Any, *, learning_rate: float) -> Any:
    """An optimizer of its own for one graph.

    Args:
        optimizer: A name of OPTIMIZER_NAMES, an optimizer, or a callable that returns one.
        learning_rate: For names only.

    Returns:
        A tf_keras legacy optimizer or a tf.compat.v1.train.Optimizer.

    Raises:
        ValueError: An unknown name, or an optimizer that does not work in a graph.
    """
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZER_NAMES:
            raise ValueError(
                f"Unsupported optimizer name: {optimizer}. Supported names are: {tuple(sorted(OPTIMIZER_NAMES))}"
            )
        return OPTIMIZER_NAMES[optimizer](learning_rate=learning_rate)
    if isinstance(optimizer, _legacy.Optimizer):
        # Slots live in the graph they were made in, and every call builds a new one.
        return type(optimizer).from_config(optimizer.get_config())
    if isinstance(optimizer, tf.compat.v1.train.Optimizer):
        return optimizer
    if callable(optimizer):
        return make_optimizer(optimizer(), learning_rate=learning_rate)
    raise ValueError(
        f"The given object is not an Optimizer that works in a graph. Given: {optimizer}. "
        "Use a name, a tf_keras.optimizers.legacy optimizer, or a tf.compat.v1.train optimizer."
    )


def minimize(optimizer: Any, loss: Any, variables: list[Any]) -> Any:
    """The op of one training step: updates the variables, and then global_step.

    Names of slots and hyper-parameters are those of the original: `training/<Optimizer>/...`.
    """
    global_step = tf.compat.v1.train.get_global_step()
    if isinstance(optimizer, tf.compat.v1.train.Optimizer):
        return optimizer.minimize(loss, global_step=global_step, var_list=variables)
    optimizer.iterations = global_step
    with tf.name_scope("training"):
        return optimizer.get_updates(loss, variables)[0]
