"""Hooks that end a training early, by what its evaluations have written or by any other condition."""

import logging
import math
import operator
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from runner.errors import StorageError
from runner.estimator.estimator import Estimator
from runner.estimator.events import EventHistory
from runner.estimator.hooks.progress_hook import published_step
from runner.estimator.hooks.step_hook import StepHook

__all__ = [
    "make_early_stopping_hook",
    "read_eval_metrics",
    "stop_if_higher_hook",
    "stop_if_lower_hook",
    "stop_if_no_decrease_hook",
    "stop_if_no_increase_hook",
]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


def make_early_stopping_hook(
    estimator: Estimator,
    should_stop_fn: Callable[[], bool],
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> Any:
    """Makes a hook that ends the training once a function says so.

    In a cluster every task has to be given the hook. The chief alone calls the function, and all tasks end at the same
    step. An evaluator task knows nothing of it, and waits for the checkpoint of max_steps: as in the original.

    Args:
        estimator: The estimator that trains with the hook.
        should_stop_fn: Takes no arguments; called after the first step, and at the interval after it.
        run_every_secs: Interval in seconds; or, with None here,
        run_every_steps: in steps.

    Returns:
        A tf.compat.v1.train.SessionRunHook. Its graph has a variable more, which the checkpoints have then too.

    Raises:
        TypeError: The estimator is none, or should_stop_fn is not callable.
        ValueError: Both intervals are given, or neither is.
    """
    if not isinstance(estimator, Estimator):
        raise TypeError(f"`estimator` must have type `tf.estimator.Estimator`. Got: {type(estimator)}")
    if run_every_secs is not None and run_every_steps is not None:
        raise ValueError("Only one of `run_every_secs` and `run_every_steps` must be set.")
    if not callable(should_stop_fn):
        raise TypeError("`should_stop_fn` must be callable.")
    timer = _v1.train.SecondOrStepTimer(every_secs=run_every_secs, every_steps=run_every_steps)
    return _ChiefStopHook(should_stop_fn, timer, run_every_steps) if estimator.config.is_chief else _StopHook()


def stop_if_higher_hook(
    estimator: Estimator,
    metric_name: str,
    threshold: float,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> Any:
    """Makes a hook that ends the training once an evaluation has a metric above a threshold.

    Args:
        estimator: The estimator that trains with the hook.
        metric_name: Key of the metric in what `evaluate` returns.
        threshold: What the metric has to exceed.
        eval_dir: Where the evaluations are written; None means `estimator.eval_dir()`.
        min_steps: Evaluations of earlier steps do not count.
        run_every_secs: See `make_early_stopping_hook`.
        run_every_steps: See `make_early_stopping_hook`.

    Returns:
        A hook as of `make_early_stopping_hook`. It raises KeyError at an evaluation without that metric.
    """
    crossed = _Crossed(metric_name, threshold, eval_dir or estimator.eval_dir(), min_steps, is_higher_better=True)
    return make_early_stopping_hook(estimator, crossed, run_every_secs, run_every_steps)


def stop_if_lower_hook(
    estimator: Estimator,
    metric_name: str,
    threshold: float,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> Any:
    """Makes a hook that ends the training once an evaluation has a metric below a threshold.

    Args:
        estimator: See `stop_if_higher_hook`, as for all arguments.
        metric_name: See there.
        threshold: What the metric has to fall below.
        eval_dir: See there.
        min_steps: See there.
        run_every_secs: See there.
        run_every_steps: See there.

    Returns:
        A hook as of `stop_if_higher_hook`.
    """
    crossed = _Crossed(metric_name, threshold, eval_dir or estimator.eval_dir(), min_steps, is_higher_better=False)
    return make_early_stopping_hook(estimator, crossed, run_every_secs, run_every_steps)


def stop_if_no_increase_hook(
    estimator: Estimator,
    metric_name: str,
    max_steps_without_increase: int,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> Any:
    """Makes a hook that ends the training when the best value of a metric gets old.

    Args:
        estimator: See `stop_if_higher_hook`, as for all arguments.
        metric_name: See there; the greatest value is the best.
        max_steps_without_increase: Age in steps, of the best value at a later evaluation, that ends the training.
        eval_dir: See there.
        min_steps: See there.
        run_every_secs: See there.
        run_every_steps: See there.

    Returns:
        A hook as of `stop_if_higher_hook`.
    """
    stale = _Stale(
        metric_name, max_steps_without_increase, eval_dir or estimator.eval_dir(), min_steps, is_higher_better=True
    )
    return make_early_stopping_hook(estimator, stale, run_every_secs, run_every_steps)


def stop_if_no_decrease_hook(
    estimator: Estimator,
    metric_name: str,
    max_steps_without_decrease: int,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> Any:
    """Makes a hook that ends the training when the best value of a metric gets old.

    Args:
        estimator: See `stop_if_higher_hook`, as for all arguments.
        metric_name: See there; the least value is the best.
        max_steps_without_decrease: Age in steps, of the best value at a later evaluation, that ends the training.
        eval_dir: See there.
        min_steps: See there.
        run_every_secs: See there.
        run_every_steps: See there.

    Returns:
        A hook as of `stop_if_higher_hook`.
    """
    stale = _Stale(
        metric_name, max_steps_without_decrease, eval_dir or estimator.eval_dir(), min_steps, is_higher_better=False
    )
    return make_early_stopping_hook(estimator, stale, run_every_secs, run_every_steps)


def read_eval_metrics(eval_dir: str) -> dict[int, dict[str, float]]:
    """The scalar metrics that evaluations have written.

    Args:
        eval_dir: Directory of their event files, which may be in the making, and need not exist yet.

    Returns:
        global_step -> metrics by name, in the order of the steps.
    """
    return _by_step(_history_of(eval_dir))


def _history_of(eval_dir: str) -> EventHistory:
    return EventHistory(eval_dir, "events.out.tfevents.*")


def _by_step(history: EventHistory) -> dict[int, dict[str, float]]:
    metrics: dict[int, dict[str, float]] = {}
    for step, values in history.results():
        metrics.setdefault(step, {}).update(values)
    return dict(sorted(metrics.items()))


class _Condition:
    """A condition on the metrics that evaluations have written."""

    def __init__(
        self, metric_name: str, limit: float, eval_dir: str, min_steps: int, *, is_higher_better: bool
    ) -> None:
        self._metric_name = metric_name
        self._limit = limit
        self._eval_dir = eval_dir
        self._history = _history_of(eval_dir)
        self._min_steps = min_steps
        self._is_better = operator.gt if is_higher_better else operator.lt
        self._is_higher_better = is_higher_better

    def _values(self) -> list[tuple[int, float]]:
        """(step, value) of the evaluations that count, by step."""
        values = []
        try:
            results = _by_step(self._history)
        except StorageError as error:  # an outage ends no training
            _logger.warning("Early stopping cannot read the metrics in %s, and tries again: %s", self._eval_dir, error)
            return []
        for step, metrics in results.items():
            if step < self._min_steps:
                continue
            if self._metric_name not in metrics:
                raise KeyError(f"{self._metric_name}: the metrics of step {step} in {self._eval_dir} are {[*metrics]}")
            values.append((step, metrics[self._metric_name]))
        return values


class _Crossed(_Condition):
    """Whether any value is beyond the limit."""

    def __call__(self) -> bool:
        for step, value in self._values():
            if self._is_better(value, self._limit):
                _logger.info(
                    'At step %s, metric "%s" has value %s which is %s the configured threshold (%s) for early '
                    "stopping.",
                    step,
                    self._metric_name,
                    value,
                    "greater than" if self._is_higher_better else "less than",
                    self._limit,
                )
                return True
        return False


class _Stale(_Condition):
    """Whether the best value was once older than the limit, in steps."""

    def __call__(self) -> bool:
        best: tuple[int, float] | None = None
        for step, value in self._values():
            if best is None or self._is_better(value, best[1]):
                best = step, value
            if step - best[0] >= self._limit:
                _logger.info(
                    'No %s in metric "%s" for %s steps, which is greater than or equal to max steps (%s) configured '
                    "for early stopping.",
                    "increase" if self._is_higher_better else "decrease",
                    self._metric_name,
                    step - best[0],
                    self._limit,
                )
                return True
        return False


class _StopHook(StepHook):
    """The part of a worker: the same variables as the chief. It ends when the chief does, as all replicas do.

    The variable is that of the original, whose workers looked at it: its checkpoints have it.
    """

    def begin(self) -> None:
        """Adds the variable to the graph."""
        with _v1.variable_scope("signal_early_stopping", reuse=_v1.AUTO_REUSE):
            self._stop_variable = _v1.get_variable(
                "STOP",
                [],
                tf.bool,
                _v1.constant_initializer(False),  # noqa: FBT003 - its value
                collections=[_v1.GraphKeys.GLOBAL_VARIABLES],
                trainable=False,
            )


class _ChiefStopHook(_StopHook):
    """Asks the function, and ends the training."""

    def __init__(self, should_stop_fn: Callable[[], bool], timer: Any, every_steps: int | None) -> None:
        self._should_stop_fn = should_stop_fn
        self._timer = timer
        self._every_steps = every_steps

    def begin(self) -> None:
        """Adds what the graph needs."""
        super().begin()
        self._stop_op = self._stop_variable.assign(True)  # noqa: FBT003 - its value
        self._step = published_step()
        self._timer.reset()

    def next_due(self, step: int) -> float:
        """The next step at which the function is asked."""
        if self._every_steps is not None and (last := self._timer.last_triggered_step()) is not None:
            return max(last + self._every_steps, step + 1)
        return step + 1 if self._timer.should_trigger_for_step(step + 1) else math.inf

    def before_run(self, run_context: Any) -> Any:  # noqa: ARG002 - signature of the base
        """Asks for the step."""
        return _v1.train.SessionRunArgs(self._step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Asks the function, if it is time."""
        step = int(run_values.results)
        if not self._timer.should_trigger_for_step(step):
            return
        self._timer.update_last_triggered_step(step)
        if self._should_stop_fn():
            _logger.info("Requesting early stopping at global step %d", step)
            run_context.session.run(self._stop_op)
            run_context.request_stop()
