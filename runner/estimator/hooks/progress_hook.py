"""ProgressHook: how far a training is, told to whoever watches it from outside."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from runner.checkpoint.writer import SaveListener
from runner.estimator.hooks.step_hook import StepHook
from runner.estimator.schedule import Schedule

__all__ = ["ProgressHook", "publish_progress", "published_step"]

_v1 = tf.compat.v1

_STEP_COLLECTION = "runner/step"
_LOSS_COLLECTION = "runner/loss"


def publish_progress(step: Any, loss: Any) -> None:
    """Lets the ProgressHooks of the default graph find what they report."""
    _v1.add_to_collection(_STEP_COLLECTION, step)
    _v1.add_to_collection(_LOSS_COLLECTION, loss)


def published_step() -> Any:
    """The global_step after the update, in the default graph, which is that of a training: for the `begin` of a hook.

    What tf.compat.v1.train.get_global_step() is in the same run may be the step before or after.
    """
    return _v1.get_collection(_STEP_COLLECTION)[0]


class ProgressHook(StepHook, SaveListener):
    """Tells callbacks how far a training is, and what becomes of its checkpoints.

    Args:
        report: Called with (step, loss, steps/s since the last call), in the training thread: at the first step, at
            most every `every_secs` after it, and at the end.
        on_ready: Called once the session is ready: initialized or restored.
        saves: Told of every save of the chief, by the threads that write; None: nobody is.
        every_secs: Shortest time between two calls.
    """

    def __init__(
        self,
        report: Callable[[int, float, float | None], None],
        *,
        on_ready: Callable[[], None],
        saves: SaveListener | None = None,
        every_secs: float = 0.5,
    ) -> None:
        self._report = report
        self._on_ready = on_ready
        self._saves = saves or SaveListener()
        self._schedule = Schedule(every_secs=every_secs)
        self._last: tuple[int, float] | None = None

    def next_due(self, step: int) -> float:
        return self._schedule.next_due(step)

    def passed_over(self, runs: int, step: int, loss: Any) -> None:  # noqa: ARG002 - signature of the base
        self._last = step, float(loss)

    def begin(self) -> None:
        self._fetches = {
            "step": published_step(),
            "loss": _v1.get_collection(_LOSS_COLLECTION)[0],
        }

    def after_create_session(self, session: Any, coord: Any) -> None:  # noqa: ARG002 - signature of the base
        self._on_ready()

    def before_run(self, run_context: Any) -> Any:  # noqa: ARG002 - signature of the base
        return _v1.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context: Any, run_values: Any) -> None:  # noqa: ARG002 - signature of the base
        self._last = int(run_values.results["step"]), float(run_values.results["loss"])
        if self._schedule.is_due(self._last[0]):
            self._tell(*self._last)

    def end(self, session: Any) -> None:  # noqa: ARG002 - signature of the base
        if self._last:
            self._tell(*self._last)

    def on_saved(self, step: int) -> None:
        self._saves.on_saved(step)

    def on_save_failed(self, step: int, error: Exception) -> None:
        self._saves.on_save_failed(step, error)

    def on_last_save(self, step: int) -> None:
        self._saves.on_last_save(step)

    def _tell(self, step: int, loss: float) -> None:
        elapsed = self._schedule.mark(step)
        self._report(step, loss, elapsed[0] / elapsed[1] if elapsed and elapsed[1] > 0 else None)
