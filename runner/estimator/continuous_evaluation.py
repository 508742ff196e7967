"""Evaluation beside a training in other processes: what an evaluator task does."""

import logging
import time
from collections.abc import Callable

from runner.errors import StoreUnavailableError
from runner.estimator.estimator import Estimator
from runner.estimator.evaluator import EvalResult, EvalStatus, Evaluator
from runner.estimator.train_spec import EvalSpec, TrainSpec

__all__ = ["ContinuousEvaluation"]

_logger = logging.getLogger("tensorflow")

_LEAST_PAUSE_SECS = 1.0
"""Between two looks for a new checkpoint, where the EvalSpec asks for no pause."""


class ContinuousEvaluation:
    """Evaluates each new checkpoint until the training has ended.

    Args:
        estimator: The estimator, whose model_dir is that of the training.
        train_spec: Its max_steps is where this ends.
        eval_spec: What is evaluated, and how often.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        estimator: Estimator,
        train_spec: TrainSpec,
        eval_spec: EvalSpec,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._evaluator = Evaluator(estimator, eval_spec, max_steps=train_spec.max_steps, clock=clock)
        self._max_steps = train_spec.max_steps
        self._start_delay_secs = eval_spec.start_delay_secs
        self._throttle_secs = eval_spec.throttle_secs
        self._clock = clock
        self._sleep = sleep

    def run(self) -> None:
        """Returns once the checkpoint of max_steps, or a later one, was evaluated; without max_steps, never."""
        if self._start_delay_secs:
            _logger.info("Waiting %f secs before starting eval.", self._start_delay_secs)
            self._sleep(self._start_delay_secs)
        while True:
            start = self._clock()
            result = self._evaluate()
            if result.metrics is not None and self._is_last(int(result.metrics["global_step"])):
                return
            self._pause(result, elapsed_secs=self._clock() - start)

    def _evaluate(self) -> EvalResult:
        try:
            return self._evaluator.evaluate_and_export()
        except StoreUnavailableError as error:  # the training, too, goes on, and waits for its store
            _logger.warning("This look for a checkpoint was in vain, and the evaluator goes on: %s", error)
            return EvalResult(EvalStatus.NO_NEW_CHECKPOINT)

    def _is_last(self, step: int) -> bool:
        if self._max_steps is None or step < self._max_steps:
            return False
        _logger.info("Exiting evaluation, global_step=%s >= train max_steps=%s", step, self._max_steps)
        return True

    def _pause(self, result: EvalResult, *, elapsed_secs: float) -> None:
        remaining_secs = self._throttle_secs - elapsed_secs
        if remaining_secs > 0:
            _logger.info("Waiting %f secs before starting next eval run.", remaining_secs)
            self._sleep(remaining_secs)
        elif result.status is not EvalStatus.EVALUATED:
            if self._throttle_secs == 0:
                _logger.warning(
                    "EvalSpec.throttle_secs is set as 0. This might overload the job before finding (next) new "
                    "checkpoint. Please consider to increase it."
                )
            self._sleep(_LEAST_PAUSE_SECS)
