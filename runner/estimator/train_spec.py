"""What `train_and_evaluate` runs: the training and the evaluation of one Estimator."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

import tensorflow as tf

__all__ = ["EvalSpec", "TrainSpec"]


class _TrainFields(NamedTuple):
    input_fn: Callable[..., Any]
    max_steps: int | None
    hooks: tuple[Any, ...]
    saving_listeners: tuple[Any, ...]


class TrainSpec(_TrainFields):
    """The training part.

    Args:
        input_fn: Returns a tf.data.Dataset, or (features, labels).
        max_steps: global_step at which training ends; None trains until the input ends.
        hooks: SessionRunHooks, on every task.
        saving_listeners: CheckpointSaverListeners, called around each save on the chief.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: `max_steps` is not positive.
    """

    __slots__ = ()

    def __new__(
        cls,
        input_fn: Callable[..., Any],
        max_steps: int | None = None,
        hooks: Iterable[Any] | None = None,
        saving_listeners: Iterable[Any] | None = None,
    ) -> Self:
        """Checks and normalizes the fields."""
        _check_input_fn(input_fn)
        if max_steps is not None and max_steps <= 0:
            raise ValueError(f"Must specify max_steps > 0, given: {max_steps}")
        return super().__new__(
            cls,
            input_fn=input_fn,
            max_steps=max_steps,
            hooks=_checked_hooks(hooks),
            saving_listeners=_checked_listeners(saving_listeners),
        )


class _EvalFields(NamedTuple):
    input_fn: Callable[..., Any]
    steps: int | None
    name: str | None
    hooks: tuple[Any, ...]
    exporters: tuple[Any, ...]
    start_delay_secs: float
    throttle_secs: float


class EvalSpec(_EvalFields):
    """The evaluation part.

    Args:
        input_fn: Returns a tf.data.Dataset, or (features, labels).
        steps: Batches per evaluation; None evaluates until the input ends.
        name: Suffix of the directory `eval_<name>`; None writes to `eval`.
        hooks: SessionRunHooks.
        exporters: One or several objects with `name` and `export`, called after each evaluation.
        start_delay_secs: How long an evaluator waits before its first evaluation.
        throttle_secs: Least time between the starts of two evaluations.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A number is out of range, or two exporters have one name.
    """

    __slots__ = ()

    def __new__(
        cls,
        input_fn: Callable[..., Any],
        steps: int | None = 100,
        name: str | None = None,
        hooks: Iterable[Any] | None = None,
        exporters: Any = None,
        start_delay_secs: float = 120,
        throttle_secs: float = 600,
    ) -> Self:
        """Checks and normalizes the fields."""
        _check_input_fn(input_fn)
        if steps is not None and steps <= 0:
            raise ValueError(f"Must specify steps > 0, given: {steps}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"`name` must be string, given: {name}")
        checked_hooks = _checked_hooks(hooks)
        checked_exporters = _checked_exporters(exporters)
        if start_delay_secs < 0:
            raise ValueError(f"Must specify start_delay_secs >= 0, given: {start_delay_secs}")
        if throttle_secs < 0:
            raise ValueError(f"Must specify throttle_secs >= 0, given: {throttle_secs}")
        return super().__new__(
            cls,
            input_fn=input_fn,
            steps=steps,
            name=name,
            hooks=checked_hooks,
            exporters=checked_exporters,
            start_delay_secs=start_delay_secs,
            throttle_secs=throttle_secs,
        )


def _check_input_fn(input_fn: Any) -> None:
    if not callable(input_fn):
        raise TypeError(f"`input_fn` must be callable, given: {input_fn}")


def _checked_hooks(hooks: Iterable[Any] | None) -> tuple[Any, ...]:
    checked = tuple(hooks or ())
    for hook in checked:
        if not isinstance(hook, tf.compat.v1.train.SessionRunHook):
            raise TypeError(f"All hooks must be `SessionRunHook` instances, given: {hook}")
    return checked


def _checked_listeners(listeners: Iterable[Any] | None) -> tuple[Any, ...]:
    checked = tuple(listeners or ())
    for listener in checked:
        if not isinstance(listener, tf.compat.v1.train.CheckpointSaverListener):
            raise TypeError(f"All saving_listeners must be `CheckpointSaverListener` instances, given: {listener}")
    return checked


def _checked_exporters(exporters: Any) -> tuple[Any, ...]:
    """The exporters as a tuple, each with a name of its own: the directory it exports to."""
    if exporters is None:
        return ()
    checked = (exporters,) if _is_exporter(exporters) else tuple(exporters) if isinstance(exporters, Iterable) else None
    if checked is None or not all(_is_exporter(each) for each in checked):
        raise TypeError(f"`exporters` must be an Exporter, an iterable of Exporter, or `None`, found {exporters}.")
    names = [each.name for each in checked]
    if not all(names):
        raise ValueError(f"An Exporter cannot have a name that is `None` or empty. All exporter names: {names}")
    if len(set(names)) != len(names):
        raise ValueError(
            f"`exporters` must have unique names. Such a name cannot be `None`. All exporter names: {names}"
        )
    return checked


def _is_exporter(value: Any) -> bool:
    return hasattr(value, "name") and callable(getattr(value, "export", None))
