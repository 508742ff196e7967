"""The hooks of every training: the input, not a number, the end, the loss line, step rate, and summaries.

All of them see `step`, the global_step after the update of the same run, so that what they report is exact.
"""

import logging
import math
from typing import Any

import tensorflow as tf

from runner.estimator.events import EventFile, write_graph
from runner.estimator.hooks.step_hook import FetchingStepHook, StepHook
from runner.estimator.schedule import Schedule

__all__ = [
    "GraphHook",
    "IteratorHook",
    "LossHook",
    "NanHook",
    "StepRateHook",
    "StopHook",
    "SummaryHook",
]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")

_STUCK_STEP = (
    "It seems that global step (tf.train.get_global_step) has not been increased. Current value (could be stable): %s "
    "vs previous value: %s. You could increase the global step by passing tf.train.get_global_step() to "
    "Optimizer.apply_gradients or Optimizer.minimize."
)


class IteratorHook(StepHook):
    """Initializes the iterator of the input once tables and variables, which its pipeline may use, are ready."""

    def __init__(self, initializer: Any) -> None:
        self._initializer = initializer

    def after_create_session(self, session: Any, coord: Any) -> None:  # noqa: ARG002 - signature of the base
        session.run(self._initializer)


class NanHook(tf.compat.v1.train.NanTensorHook, StepHook):
    """Ends a training whose loss is not a number with NanLossDuringTrainingError."""

    def passed_over(self, runs: int, step: int, loss: Any) -> None:  # noqa: ARG002 - signature of the base
        if runs:
            self.after_run(None, _v1.train.SessionRunValues(loss, options=None, run_metadata=None))


class StopHook(FetchingStepHook):
    """Asks for the end at a step.

    Args:
        step: The step tensor.
        steps: Stop after that many more steps than the run began with; or
        max_steps: stop at that global_step.
    """

    def __init__(self, step: Any, *, steps: int | None, max_steps: int | None) -> None:
        super().__init__(step)
        self._steps = steps
        self._last_step = max_steps

    def after_create_session(self, session: Any, coord: Any) -> None:  # noqa: ARG002 - signature of the base
        if self._steps is not None:
            self._last_step = int(session.run(_v1.train.get_global_step())) + self._steps

    def next_due(self, step: int) -> float:
        return math.inf if self._last_step is None else max(self._last_step, step + 1)

    def after_step(self, run_context: Any, step: int) -> None:
        if self._last_step is not None and step >= self._last_step:
            run_context.request_stop()


class LossHook(StepHook):
    """Logs `loss = ..., step = ...` at the first iteration and every `every_steps` after it."""

    def __init__(self, step: Any, loss: Any, *, every_steps: int) -> None:
        self._fetches = {"step": step, "loss": loss}
        self._schedule = Schedule(every_steps=every_steps)

    def next_due(self, step: int) -> float:
        return self._schedule.next_due(step)

    def before_run(self, run_context: Any) -> Any:  # noqa: ARG002 - signature of the base
        return _v1.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context: Any, run_values: Any) -> None:  # noqa: ARG002 - signature of the base
        loss, step = run_values.results["loss"], int(run_values.results["step"])
        if not self._schedule.is_due(step):
            return
        if elapsed := self._schedule.mark(step):
            _logger.info("loss = %s, step = %s (%.3f sec)", loss, step, elapsed[1])
        else:
            _logger.info("loss = %s, step = %s", loss, step)


class StepRateHook(FetchingStepHook):
    """Logs and writes `global_step/sec` every `every_steps` steps. Chief only.

    It also warns of a global_step that stays the same for as many runs, and for more than an optimizer that accumulates
    gradients may leave it.
    """

    _TAG = "global_step/sec"
    _MIN_RUNS_TO_WARN = 20  # as in the original

    def __init__(self, step: Any, *, every_steps: int, events: EventFile) -> None:
        super().__init__(step)
        self._schedule = Schedule(every_steps=every_steps)
        self._events = events
        self._warn_every_runs = max(every_steps, self._MIN_RUNS_TO_WARN)
        self._last_step: int | None = None
        self._runs_at_step = 0

    def next_due(self, step: int) -> float:
        return self._schedule.next_due(step)

    def passed_over(self, runs: int, step: int, loss: Any) -> None:  # noqa: ARG002 - signature of the base
        before = self._runs_at_step // self._warn_every_runs
        self._runs_at_step = self._runs_at_step + runs if step == self._last_step else 0
        for _ in range(before, self._runs_at_step // self._warn_every_runs):
            _logger.warning(_STUCK_STEP, step, self._last_step)
        self._last_step = step

    def after_step(self, run_context: Any, step: int) -> None:  # noqa: ARG002 - signature of the base
        self.passed_over(1, step, None)
        if self._schedule.is_due(step) and (elapsed := self._schedule.mark(step)):
            rate = elapsed[0] / max(elapsed[1], 1e-9)
            self._events.writer.add_summary(
                _v1.Summary(value=[_v1.Summary.Value(tag=self._TAG, simple_value=rate)]), step
            )
            _logger.info("%s: %g", self._TAG, rate)


class SummaryHook(StepHook):
    """Writes the summaries of the graph at the first iteration and every `every_steps` after it. Chief only.

    Args:
        step: The step tensor.
        scaffold: Its summary_op is evaluated in the runs that are written, and in no other.
        every_steps: Interval in steps.
        events: Gets SessionLog.START, so that TensorBoard drops what a dead run wrote past this step, and the
            summaries.
    """

    def __init__(self, step: Any, scaffold: Any, *, every_steps: int, events: EventFile) -> None:
        self._step = step
        self._scaffold = scaffold
        self._schedule = Schedule(every_steps=every_steps)
        self._events = events
        self._last_step: int | None = None

    def next_due(self, step: int) -> float:
        return self._schedule.next_due(step)

    def passed_over(self, runs: int, step: int, loss: Any) -> None:  # noqa: ARG002 - signature of the base
        self._last_step = step

    def before_run(self, run_context: Any) -> Any:  # noqa: ARG002 - signature of the base
        fetches = {"step": self._step}
        # Every run is one step, or none at the end of the input: the next step is known before it runs.
        is_due = self._last_step is None or self._schedule.is_due(self._last_step + 1)
        if is_due and self._scaffold.summary_op is not None:
            fetches["summary"] = self._scaffold.summary_op
        return _v1.train.SessionRunArgs(fetches)

    def after_run(self, run_context: Any, run_values: Any) -> None:  # noqa: ARG002 - signature of the base
        step = int(run_values.results["step"])
        if self._last_step is None:
            self._events.writer.add_session_log(_v1.SessionLog(status=_v1.SessionLog.START), step)
        self._last_step = step
        if "summary" in run_values.results:
            self._schedule.mark(step)
            self._events.writer.add_summary(run_values.results["summary"], step)
            self._events.writer.flush()


class GraphHook(StepHook):
    """Writes the graph into the events. Chief only."""

    def __init__(self, events: EventFile, scaffold: Any) -> None:
        self._events = events
        self._scaffold = scaffold

    def after_create_session(self, session: Any, coord: Any) -> None:  # noqa: ARG002 - signature of the base
        write_graph(self._events.writer, session.graph, self._scaffold.saver)
