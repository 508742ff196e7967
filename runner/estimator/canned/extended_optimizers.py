"""Legacy optimizers with what newer ones of Keras have besides: weight decay, and averages of the weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

__all__ = ["Averages", "WeightDecay", "extend"]


@dataclass(frozen=True)
class WeightDecay:
    """Before its update, a variable shrinks by learning rate x rate.

    Attributes:
        rate: Above 0.
        excluded: Patterns of the names of the variables that do not shrink.
    """

    rate: float
    excluded: Sequence[str] = ()


@dataclass(frozen=True)
class Averages:
    """A moving average of a variable takes the variable's place every so many steps.

    Attributes:
        momentum: Share of the average so far.
        overwrite_frequency: Number of steps.
        from_first_step: Whether the first average is the variable after its first update; else it begins with what the
            variable was before that.
    """

    momentum: float
    overwrite_frequency: int
    from_first_step: bool


def extend(cls: Any, decay: WeightDecay | None, averages: Averages | None) -> Any:
    """A legacy optimizer class that does more with each variable; takes the same arguments.

    Args:
        cls: Of tf_keras.optimizers.legacy.
        decay: None for none.
        averages: None for none; otherwise they are slots `average`.
    """

    class Extended(cls):
        def _create_slots(self, var_list: Sequence[Any]) -> None:
            super()._create_slots(var_list)
            for var in var_list if averages else ():
                self.add_slot(var, "average")

        def _resource_apply_dense(self, grad: Any, var: Any, apply_state: Any = None) -> Any:
            before = self._prepared(grad, var)
            with tf.control_dependencies([before]):
                update = super()._resource_apply_dense(grad, var, apply_state)
            return self._averaged(update, var, before)

        def _resource_apply_sparse(self, grad: Any, var: Any, indices: Any, apply_state: Any = None) -> Any:
            before = self._prepared(grad, var)
            with tf.control_dependencies([before]):
                update = super()._resource_apply_sparse(grad, var, indices, apply_state)
            return self._averaged(update, var, before)

        def _prepared(self, grad: Any, var: Any) -> Any:
            """What the variable was, once it has shrunk."""
            # The gradient is that of the variable before it shrinks.
            with tf.control_dependencies([grad]):
                before = tf.identity(var.read_value())
            if decay is None or any(re.search(pattern, var.name) for pattern in decay.excluded):
                return before
            shrinking = var.assign_sub(before * tf.cast(self._decayed_lr(tf.float32), var.dtype) * decay.rate)
            with tf.control_dependencies([shrinking]):
                return tf.identity(before)

        def _averaged(self, update: Any, var: Any, before: Any) -> Any:
            if averages is None:
                return update
            step, slot = self.iterations.read_value(), self.get_slot(var, "average")
            # In a graph `==` would compare the objects.
            is_first = tf.equal(step, 0)
            is_time = tf.equal((step + 1) % averages.overwrite_frequency, 0)
            with tf.control_dependencies([update]):
                momentum = tf.cast(averages.momentum, var.dtype)
                if averages.from_first_step:
                    momentum = tf.where(is_first, tf.zeros_like(momentum), momentum)
                previous = tf.where(is_first, before, slot.read_value())
                value = var.read_value()
                average = momentum * previous + (1 - momentum) * value
                return tf.group(slot.assign(average), var.assign(tf.where(is_time, average, value)))

    return Extended
