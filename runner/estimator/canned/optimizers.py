"""Optimizers of the canned estimators: from a name, a callable, or an instance."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tf_keras
from tensorflow.python.eager import context

from runner.estimator.canned.keras_optimizers import is_keras_optimizer, translate, translate_schedule

__all__ = ["OPTIMIZER_NAMES", "count_steps", "detach_optimizer", "make_optimizer", "minimize"]

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
        optimizer: A name of OPTIMIZER_NAMES, an optimizer of tf_keras.optimizers, tf.compat.v1.train or Keras 3, or a
            callable that returns one; called in the graph, so that a learning rate may be a tensor that depends on the
            global step.
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
    if isinstance(optimizer, _legacy.Optimizer) or is_keras_optimizer(optimizer):
        return detach_optimizer(optimizer)
    if callable(optimizer):
        optimizer = _made_by(optimizer)
    if isinstance(optimizer, _legacy.Optimizer):
        return _with_schedules_of_graphs(optimizer)
    if isinstance(optimizer, tf.compat.v1.train.Optimizer):
        return optimizer
    raise ValueError(
        f"The given object is not a tf.keras.optimizers.Optimizer instance. Given: {optimizer}. Use a name, an "
        "optimizer of tf_keras.optimizers, tf.compat.v1.train or Keras 3, or a callable that makes one."
    )


def detach_optimizer(optimizer: Any) -> Any:
    """What an estimator keeps of an optimizer that it is given: the settings of an object, which may be in variables.

    To be called when the estimator is made. Later those variables may be out of reach: a tf.distribute.Server, which a
    training with workers starts, gives the process other devices.

    Args:
        optimizer: See make_optimizer.

    Returns:
        A legacy optimizer without variables for an optimizer of Keras; anything else as it is given.

    Raises:
        ValueError: An optimizer of Keras that has no counterpart.
    """
    if isinstance(optimizer, _legacy.Optimizer):
        return _with_schedules_of_graphs(_copy(optimizer))
    return translate(optimizer) if is_keras_optimizer(optimizer) else optimizer


def _made_by(factory: Callable[[], Any]) -> Any:
    """What the callable makes in the graph; an optimizer that has to be translated is made once more outside of it."""
    graph = tf.compat.v1.get_default_graph()
    before = {key: graph.get_collection(key) for key in graph.get_all_collection_keys()}
    made = factory()
    if is_keras_optimizer(made):
        # Its variables are none of the model, and must not be saved with it.
        for key in graph.get_all_collection_keys():
            graph.get_collection_ref(key)[:] = before.get(key, [])
        with context.eager_mode():
            made = factory()
        return translate(made)
    if isinstance(made, _legacy.Optimizer) and not _is_of_this_graph(made):
        raise ValueError(
            f"The callable given as the optimizer returned one that another graph, or eager code, has used: {made}. "
            "Let it make a new one in every call, or give the optimizer itself."
        )
    return made


def _is_of_this_graph(optimizer: Any) -> bool:
    graph = tf.compat.v1.get_default_graph()
    return all(getattr(variable, "graph", None) is graph for variable in optimizer.variables())


def _copy(optimizer: Any) -> Any:
    """An optimizer with the same settings that has made no variables yet: they live in the graph they were made in."""
    cls: Any = type(optimizer)
    if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):  # has an optimizer and variables inside
        return cls.from_config(optimizer.get_config())
    # Not by its config, which lacks gradient transformers and needs schedules to be registered.
    copy = cls.__new__(cls)
    settings = {name: value for name, value in vars(optimizer).items() if not name.startswith("_self_")}
    hyper = {name: _plain(optimizer, name) for name in optimizer._hyper}  # noqa: SLF001 - has no public name
    vars(copy).update(settings, _hyper=hyper, _hypers_created=False, _iterations=None)
    vars(copy).update(_slots={}, _slot_names=[], _weights=[], _deferred_slot_restorations={})
    return copy


def _with_schedules_of_graphs(optimizer: Any) -> Any:
    """The optimizer, with what it was given of the schedules of Keras 3 translated."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
    hyper = inner._hyper  # noqa: SLF001 - has no public name
    for name, value in hyper.items():
        if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
            hyper[name] = translate_schedule(value)
    return optimizer


def _plain(optimizer: Any, name: str) -> Any:
    """A hyper-parameter as it was given: a number, a tensor, a schedule, or a callable."""
    value = optimizer._hyper[name]  # noqa: SLF001 - has no public name
    return optimizer._serialize_hyperparameter(name) if isinstance(value, tf.Variable) else value  # noqa: SLF001


def count_steps(optimizer: Any) -> None:
    """Has an optimizer of tf_keras add 1 to global_step when it updates variables; those of v1 have to be told then."""
    if isinstance(optimizer, tf.compat.v1.train.Optimizer):
        return
    global_step = tf.compat.v1.train.get_global_step()
    if not any(variable is global_step for variable in optimizer.variables()):  # else the callable did it
        optimizer.iterations = global_step


def minimize(optimizer: Any, loss: Any, variables: list[Any], *, counts_steps: bool = True) -> Any:
    """The op of one training step: updates the variables, and then global_step.

    Names of slots and hyper-parameters begin with the name scope of the caller: `training/<Optimizer>/...`.

    Args:
        optimizer: What make_optimizer returned.
        loss: Scalar.
        variables: What to update.
        counts_steps: Whether to add 1 to global_step; else the optimizer has a counter `iter` of its own, for one of
            several optimizers in one step.
    """
    if isinstance(optimizer, tf.compat.v1.train.Optimizer):
        global_step = tf.compat.v1.train.get_global_step() if counts_steps else None
        return optimizer.minimize(loss, global_step=global_step, var_list=variables)
    if counts_steps:
        count_steps(optimizer)
    return optimizer.get_updates(loss, variables)[0]
