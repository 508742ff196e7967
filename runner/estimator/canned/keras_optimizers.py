"""Optimizers of Keras 3, and those of tf_keras that are not legacy, as tf_keras legacy optimizers.

The former update nothing in a graph; the latter do, under the slot names of the original.
"""

import inspect
import re
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf
import tf_keras
from tensorflow.python.eager import context

from runner.estimator.canned.extended_optimizers import Averages, WeightDecay, extend

__all__ = ["is_keras_optimizer", "translate", "translate_schedule"]

_legacy = tf_keras.optimizers.legacy

_COUNTERPARTS: dict[str, Any] = {
    "Adadelta": _legacy.Adadelta,
    "Adagrad": _legacy.Adagrad,
    "Adam": _legacy.Adam,
    "AdamW": _legacy.Adam,
    "Adamax": _legacy.Adamax,
    "Ftrl": _legacy.Ftrl,
    "Nadam": _legacy.Nadam,
    "RMSprop": _legacy.RMSprop,
    "SGD": _legacy.SGD,
}

_WITHOUT_EFFECT = {"name", "jit_compile", "is_legacy_optimizer"}
"""Settings that say nothing about the updates."""


def is_keras_optimizer(value: Any) -> bool:
    """Whether it is an optimizer that has to be translated."""
    return isinstance(value, (keras.optimizers.Optimizer, tf_keras.optimizers.Optimizer)) and not isinstance(
        value, _legacy.Optimizer
    )


def translate(optimizer: Any) -> Any:
    """A new tf_keras legacy optimizer with the class and the hyper-parameters of another one.

    Translated are the learning rate (a number, a schedule, or a callable), the hyper-parameters of the class, clipnorm,
    clipvalue, global_clipnorm, the decoupled weight decay with what it excludes by name, and moving averages of the
    weights (use_ema) if there is an ema_overwrite_frequency.

    Args:
        optimizer: Of keras.optimizers, or of tf_keras.optimizers; not changed.

    Raises:
        ValueError: Its class, or one of its settings, has no counterpart; the message names it.
    """
    name = type(optimizer).__name__
    module = keras.optimizers if isinstance(optimizer, keras.optimizers.Optimizer) else tf_keras.optimizers
    if name not in _COUNTERPARTS or type(optimizer) is not getattr(module, name, None):
        raise _refusal(optimizer, f"the counterparts that work in a graph are {sorted(_COUNTERPARTS)}")
    with context.eager_mode():  # its variables are no part of the graph that is being built
        settings = _settings(optimizer)
    decay, averages, cls = _decay(optimizer, settings), _averages(optimizer, settings), _COUNTERPARTS[name]
    settings["name"] = _name(optimizer)
    known = inspect.signature(cls).parameters.keys() | {"clipnorm", "clipvalue", "global_clipnorm"}
    if unknown := sorted(key for key, value in settings.items() if key not in known and value not in {None, False}):
        raise _refusal(optimizer, f"there is no counterpart to its {', '.join(unknown)}")
    arguments = {key: value for key, value in settings.items() if key in known and value is not None}
    return extend(cls, decay, averages)(**arguments) if decay or averages else cls(**arguments)


def _decay(optimizer: Any, settings: dict[str, Any]) -> WeightDecay | None:
    rate = settings.pop("weight_decay", None)
    return WeightDecay(float(rate), _excluded(optimizer)) if rate else None


def _averages(optimizer: Any, settings: dict[str, Any]) -> Averages | None:
    momentum, frequency = settings.pop("ema_momentum", None), settings.pop("ema_overwrite_frequency", None)
    if not settings.pop("use_ema", False):
        return None
    if not frequency:
        raise _refusal(optimizer, "without ema_overwrite_frequency nothing uses the averages of its use_ema")
    is_keras_3 = isinstance(optimizer, keras.optimizers.Optimizer)
    return Averages(float(momentum), int(frequency), from_first_step=is_keras_3)


def _settings(optimizer: Any) -> dict[str, Any]:
    """The hyper-parameters of an optimizer by name, as Python values, schedules and callables."""
    # Not by its config, which needs schedules and callables that are registered.
    names = {name for cls in type(optimizer).__mro__ if "__init__" in vars(cls) for name in _parameters(cls)}
    settings = {name: getattr(optimizer, name) for name in names - _WITHOUT_EFFECT if hasattr(optimizer, name)}
    return {**settings, "learning_rate": _learning_rate(optimizer)}


def _parameters(cls: Any) -> Iterable[str]:
    return inspect.signature(cls.__init__).parameters.keys() - {"self", "kwargs", "learning_rate"}


def _learning_rate(optimizer: Any) -> Any:
    rate = optimizer._learning_rate  # noqa: SLF001 - the property has the value of the present step only
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return translate_schedule(rate)
    if not isinstance(rate, (keras.Variable, tf.Variable)):
        return rate
    try:
        return float(rate.numpy())
    except (AttributeError, NotImplementedError, TypeError) as error:
        raise _refusal(
            optimizer, "it was made in a graph, where its settings have no values: give a callable that makes it"
        ) from error


def translate_schedule(schedule: Any) -> Any:
    """A schedule of Keras 3 as one of tf_keras, which does its sums in the graph."""
    counterpart = getattr(tf_keras.optimizers.schedules, type(schedule).__name__, None)
    if counterpart is None or type(schedule) is not getattr(keras.optimizers.schedules, type(schedule).__name__, None):
        return _OwnSchedule(schedule)
    return counterpart.from_config(schedule.get_config())


class _OwnSchedule(tf_keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that a user derived from that of Keras 3."""

    def __init__(self, schedule: Any) -> None:
        self._schedule = schedule

    def __call__(self, step: Any) -> Any:
        return self._schedule(step)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self._schedule}


def _name(optimizer: Any) -> str:
    """The name under which the slots are stored: that of the class, unless the user gave another."""
    cls = type(optimizer).__name__
    given = str(optimizer.name)
    # Keras 3 makes names such as `adam_w` and `adam_w_1`.
    return cls if re.sub(r"(_\d+)?$", "", given).replace("_", "").lower() == cls.lower() else given


def _excluded(optimizer: Any) -> list[str]:
    """Patterns of the names of the variables without weight decay."""
    if getattr(optimizer, "_exclude_from_weight_decay", None):
        raise _refusal(optimizer, "it excludes variables from weight_decay by themselves, not by their names")
    return list(getattr(optimizer, "_exclude_from_weight_decay_names", None) or ())


def _refusal(optimizer: Any, reason: str) -> ValueError:
    cls = type(optimizer)
    return ValueError(
        f"{cls.__module__}.{cls.__qualname__} cannot be used in a graph: {reason}. Use an optimizer of "
        "tf_keras.optimizers.legacy or of tf.compat.v1.train."
    )
