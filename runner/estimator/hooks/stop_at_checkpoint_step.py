"""A hook that ends a training at a step that is known to be saved."""

import logging
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from runner.checkpoint.listing import CheckpointFollower, step_of
from runner.errors import StorageError
from runner.estimator.estimator import Estimator
from runner.estimator.hooks.progress_hook import published_step
from runner.estimator.hooks.step_hook import StepHook

__all__ = ["make_stop_at_checkpoint_step_hook"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


def make_stop_at_checkpoint_step_hook(
    estimator: Estimator, last_step: int, wait_after_file_check_secs: float = 30
) -> Any:
    """Makes a hook that ends the training at a step: on the chief at once, on a worker when that step is saved.

    Args:
        estimator: The estimator that trains with the hook.
        last_step: global_step of the end.
        wait_after_file_check_secs: Least time between two looks of a worker for the checkpoint. Meanwhile it goes on,
            which in lock-step means that it waits for the chief.

    Returns:
        A tf.compat.v1.train.SessionRunHook.

    Raises:
        ValueError: There is no last_step.
    """
    if last_step is None:
        raise ValueError("last_step must be specified.")
    if estimator.config.is_chief:
        return _v1.train.StopAtStepHook(last_step=last_step)
    return _StopAtCheckpointStepHook(estimator.model_dir, last_step, wait_secs=wait_after_file_check_secs)


class _StopAtCheckpointStepHook(StepHook):
    def __init__(
        self, model_dir: str, last_step: int, *, wait_secs: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._follower = CheckpointFollower(model_dir)
        self._last_step = last_step
        self._wait_secs = wait_secs
        self._clock = clock
        self._looked_at: float | None = None

    def begin(self) -> None:
        self._step = published_step()

    def next_due(self, step: int) -> float:
        return max(self._last_step, step + 1)

    def before_run(self, run_context: Any) -> Any:  # noqa: ARG002 - signature of the base
        return _v1.train.SessionRunArgs(self._step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if int(run_values.results) < self._last_step:
            return
        now = self._clock()
        if self._looked_at is not None and now < self._looked_at + self._wait_secs:
            return
        self._looked_at = now
        if self._saved_step() >= self._last_step:
            run_context.request_stop()

    def _saved_step(self) -> int:
        try:
            return step_of(self._follower.poll() or "") or 0
        except StorageError as error:  # an outage ends no training
            _logger.warning("The step that is saved cannot be read, which is tried again: %s", error)
            return 0
