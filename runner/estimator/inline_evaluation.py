"""Evaluation amid a training, of what it saves."""

import logging
from typing import Any

import tensorflow as tf

from runner.checkpoint.listing import step_of
from runner.checkpoint.selection import restorable
from runner.estimator.estimator import Estimator
from runner.estimator.evaluator import EvalResult, EvalStatus, Evaluator
from runner.estimator.train_spec import EvalSpec, TrainSpec

__all__ = ["InlineEvaluation"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


class InlineEvaluation(tf.compat.v1.train.CheckpointSaverListener):
    """Evaluates what a training saves, in the process and the thread that trains.

    The checkpoint that a training begins with, at its step or after its first iteration, is left out: it is that of the
    training before, or hardly trained.

    Args:
        estimator: The estimator that trains.
        train_spec: What it trains with.
        eval_spec: What is evaluated.
    """

    def __init__(self, estimator: Estimator, train_spec: TrainSpec, eval_spec: EvalSpec) -> None:
        self._estimator = estimator
        self._evaluator = Evaluator(estimator, eval_spec, max_steps=train_spec.max_steps)
        self._throttle_secs = eval_spec.throttle_secs
        self.last: EvalResult | None = None

    def begin(self) -> None:
        """Notes where the training begins."""
        self._timer = _v1.train.SecondOrStepTimer(every_secs=self._throttle_secs)
        # The latest one may be damaged: that is for the training to find out, and to pass over.
        paths = restorable(self._estimator.model_dir)
        self._first_step: int | None = (step_of(paths[0]) or 0) + 1 if paths else 1

    def after_save(self, session: Any, global_step_value: int) -> None:  # noqa: ARG002 - signature of the base
        """Evaluates the checkpoint of that step."""
        first_step, self._first_step = self._first_step, None
        if first_step is not None and global_step_value <= first_step:
            return
        if self._timer.should_trigger_for_step(global_step_value):
            self._evaluate(global_step_value)
        else:
            _logger.info("Skip the current checkpoint eval due to throttle secs (%s secs).", self._throttle_secs)

    def end(self, session: Any, global_step_value: int) -> None:  # noqa: ARG002 - signature of the base
        """Evaluates the last checkpoint, unless that was done when it was saved."""
        if global_step_value != self._timer.last_triggered_step():
            self._evaluate(global_step_value)

    def _evaluate(self, step: int) -> None:
        self._timer.update_last_triggered_step(step)
        self.last = self._evaluator.evaluate_and_export()
        if self.last.status is not EvalStatus.EVALUATED:
            raise RuntimeError(f"There was no new checkpoint after the training. Eval status: {self.last.status.value}")
