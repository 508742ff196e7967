"""StepLoop: a training from its first step to its last, through the hooks only where one has something to do."""

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from runner.estimator.fused_steps import FusedSteps
from runner.estimator.prepared import PreparedRun
from runner.estimator.session import HookedSession

__all__ = ["StepLoop"]

_BURST_SECS = 0.05
"""How long steps pass no hook at most: hooks may go by the clock, and threads may ask for the end."""

_FUSE_AFTER_RUNS = 500
_FUSE_BELOW_SECS = 0.001
"""Making a loop of the graph takes as long as some hundred small steps, and gains nothing for large ones."""


class StepLoop:
    """Runs steps until a hook, or the end of the input, stops them.

    The first step passes the hooks, as does every one that a hook waits for. In between, all that is run is the step:
    one by one at first, and many in one call if they are small and many, and the graph allows it.

    Args:
        session: The session with its hooks.
        train_op: Operation or tensor that is one step.
        loss: Scalar, of the same run.
        step: int64 scalar, the global_step that the same run reached.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        session: HookedSession,
        *,
        train_op: Any,
        loss: Any,
        step: Any,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._session = session
        self._clock = clock
        self._fetches = {"train_op": train_op, "loss": loss, "step": step}
        self._single: PreparedRun | None = None
        self._fused: FusedSteps | None = None
        self._is_settled = False
        self._loss: Any = None
        self._stride = 1
        self._runs = 0
        self._secs_per_run = _BURST_SECS

    def run(self) -> Any:
        """Trains.

        Returns:
            The loss of the last step; None if there was none.
        """
        with self._session as session:
            while not session.should_stop():
                values = session.run(self._fetches)
                self._loss = values["loss"]
                self._run_quietly(int(values["step"]))
        return self._loss

    def _run_quietly(self, step: int) -> None:
        """Runs all steps after this one that no hook waits for."""
        session = self._session
        while not session.should_stop() and step + self._stride < (due := session.next_due(step)):
            start, runs = self._clock(), self._runs
            step = self._run_fused(self._fused, step, due) if self._fused else self._run_single(step, due)
            self._secs_per_run = (self._clock() - start) / (self._runs - runs)
            self._settle()

    def _run_single(self, step: int, due: float) -> int:
        """Runs steps before the one that is due, one by one: at least one, and more for a short time.

        Returns:
            The global_step reached.
        """
        if self._single is None:
            fetches = [self._fetches[name] for name in ("loss", "step", "train_op")]
            self._single = PreparedRun(self._session.session, fetches, clock=self._clock)
        deadline = self._clock() + _BURST_SECS
        max_runs = _max_runs(step, due)
        runs = 0
        try:
            # A process that is suspended may find its time over before the first run.
            while step + self._stride < due and runs < max_runs and (runs == 0 or self._clock() < deadline):
                self._loss, reached, *_ = self._single()
                runs += 1
                # A model_fn may count more than one step in a run, or none in some runs.
                self._stride, step = max(self._stride, int(reached) - step), int(reached)
                if self._loss != self._loss:
                    break
        finally:
            self._pass_over(runs, step)
        return step

    def _run_fused(self, fused: FusedSteps, step: int, due: float) -> int:
        """The same, many in one call."""
        max_runs = int(min(max(1, _BURST_SECS / self._secs_per_run), _max_runs(step, due)))
        last = int(min(due, step + self._stride * (max_runs + 1)))
        try:
            done = fused.run(step, stride=self._stride, due=last, max_runs=max_runs, max_secs=_BURST_SECS)
        except tf.errors.OutOfRangeError:
            runs, loss = fused.progress()
            self._loss = loss if runs else self._loss
            self._pass_over(runs, int(self._session.session.run(tf.compat.v1.train.get_global_step())))
            raise
        self._loss, self._stride = done.loss, max(self._stride, done.stride)
        self._pass_over(done.runs, done.step)
        return done.step

    def _pass_over(self, runs: int, step: int) -> None:
        self._runs += runs
        if runs:
            self._session.pass_over(runs, step, self._loss)

    @property
    def is_fused(self) -> bool:
        """Whether it has gone over to many steps a call."""
        return self._fused is not None

    def _settle(self) -> None:
        """Goes over to many steps a call, once, if that is worth it and possible."""
        if self._is_settled or self._single is None or self._runs < _FUSE_AFTER_RUNS:
            return
        self._is_settled = True
        session = self._session.session
        if (
            self._secs_per_run < _FUSE_BELOW_SECS
            and self._single.prefers_caller
            and FusedSteps.is_possible(session, **self._fetches)
        ):
            self._fused = FusedSteps(session, **self._fetches)


def _max_runs(step: int, due: float) -> float:
    """After how many runs the hooks are asked again.

    A run may leave the step as it is, where gradients are accumulated for one, and hooks may count runs.
    """
    return due - step - 1
