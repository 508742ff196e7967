"""StepLoop: a training from its first step to its last, through the hooks only where one has something to do."""

import time
from typing import Any

from runner.estimator.prepared import PreparedRun
from runner.estimator.session import HookedSession

__all__ = ["StepLoop"]

_BURST_SECS = 0.05
"""How long steps pass no hook at most: hooks may go by the clock, and threads may ask for the end."""


class StepLoop:
    """Runs steps until a hook, or the end of the input, stops them.

    The first step passes the hooks, as does every one that a hook waits for. In between, all that is run is the step.

    Args:
        session: The session with its hooks.
        train_op: Operation or tensor that is one step.
        loss: Scalar, of the same run.
        step: int64 scalar, the global_step that the same run reached.
    """

    def __init__(self, session: HookedSession, *, train_op: Any, loss: Any, step: Any) -> None:
        self._session = session
        self._fetches = [train_op, loss, step]
        self._quiet_fetches = [loss, step, train_op]
        self._run: PreparedRun | None = None
        self._loss: Any = None
        self._stride = 1

    def run(self) -> Any:
        """Trains.

        Returns:
            The loss of the last step; None if there was none.
        """
        with self._session as session:
            while not session.should_stop():
                _, self._loss, step = session.run(self._fetches)
                self._run_quietly(int(step))
        return self._loss

    def _run_quietly(self, step: int) -> None:
        """Runs all steps after this one that no hook waits for."""
        session = self._session
        while not session.should_stop() and step + self._stride < (due := session.next_due(step)):
            step = self._burst(step, due)

    def _burst(self, step: int, due: float) -> int:
        """Runs steps before the one that is due, for a short time.

        Returns:
            The global_step reached.
        """
        run = self._run = self._run or PreparedRun(self._session.session, self._quiet_fetches)
        deadline = time.monotonic() + _BURST_SECS
        runs = 0
        try:
            while step + self._stride < due and time.monotonic() < deadline:
                self._loss, reached, *_ = run()
                runs += 1
                # A model_fn may count more than one step in a run, or none in some runs.
                self._stride, step = max(self._stride, int(reached) - step), int(reached)
                if self._loss != self._loss:
                    break
        finally:
            self._session.pass_over(runs, step, self._loss)
        return step
