"""train_and_evaluate: what one task does of a training that is evaluated while it runs."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from runner.checkpoint.listing import step_of
from runner.estimator.estimator import Estimator
from runner.estimator.evaluator import EvalResult, EvalStatus, Evaluator
from runner.estimator.train_spec import EvalSpec, TrainSpec

__all__ = ["ContinuousEvaluation", "InlineEvaluation", "train_and_evaluate"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")

_TASK_TYPES = ("chief", "evaluator", "master", "ps", "worker")
_LEAST_PAUSE_SECS = 1.0
"""Between two looks for a new checkpoint, where the EvalSpec asks for no pause."""


def train_and_evaluate(
    estimator: Estimator, train_spec: TrainSpec, eval_spec: EvalSpec
) -> tuple[dict[str, Any] | None, list[Any] | None] | None:
    """Trains an estimator, evaluates its checkpoints, and exports them, as tf.estimator.train_and_evaluate does.

    What this process does of it is said by its TF_CONFIG:

    - Without a cluster it trains, and evaluates in between: after every save but the first, though not more often than
      every `throttle_secs`, and after the last one.
    - A `chief` and `worker`s train in lock-step. No task is delayed: each step waits for all of them.
    - A `master`, the older name of the chief, trains with the workers and evaluates as without a cluster.
    - An `evaluator` follows the latest checkpoint from outside the cluster until it has evaluated `max_steps`. If
      that is None, or the training stops early, it waits for the next checkpoint for ever, as the original does.

    Args:
        estimator: The estimator.
        train_spec: Input and end of the training.
        eval_spec: Input, pace and exporters of the evaluation.

    Returns:
        Without a cluster (metrics, exports) of the last evaluation, exports being what each exporter returned, and
        (None, None) if there was nothing left to train. None in the tasks of a cluster.

    Raises:
        TypeError: An argument is of another type.
        ValueError: TF_CONFIG names a task type that is not known, a second evaluator, or parameter servers.
        PeerLostError: Another task of the cluster is gone.
    """
    _check(estimator, train_spec, eval_spec)
    _logger.info("Not using Distribute Coordinator.")
    config = estimator.config
    if config.task_type == "evaluator":
        if config.task_id > 0:
            raise ValueError(
                "For distributed training, there can only be one `evaluator` task (with task id 0).  "
                f"Given task id {config.task_id}"
            )
        ContinuousEvaluation(estimator, train_spec, eval_spec).run()
        return None
    if not config.cluster_spec:
        return _run_local(estimator, train_spec, eval_spec)
    if config.task_type not in _TASK_TYPES:
        raise ValueError(f"Task type {config.task_type} is not supported. Supported task types are {list(_TASK_TYPES)}")
    is_master = config.task_type == "master"
    _train(estimator, train_spec, [InlineEvaluation(estimator, train_spec, eval_spec)] if is_master else [])
    return None


def _check(estimator: Estimator, train_spec: TrainSpec, eval_spec: EvalSpec) -> None:
    for name, value, kind in (
        ("eval_spec", eval_spec, EvalSpec),
        ("estimator", estimator, Estimator),
        ("train_spec", train_spec, TrainSpec),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"`{name}` must have type `tf.estimator.{kind.__name__}`. Got: {type(value)}")


def _run_local(
    estimator: Estimator, train_spec: TrainSpec, eval_spec: EvalSpec
) -> tuple[dict[str, Any] | None, list[Any] | None]:
    config = estimator.config
    _logger.info("Running training and evaluation locally (non-distributed).")
    _logger.info(
        "Start train and evaluate loop. The evaluate will happen after every checkpoint. Checkpoint frequency is "
        "determined based on RunConfig arguments: save_checkpoints_steps %s or save_checkpoints_secs %s.",
        config.save_checkpoints_steps,
        config.save_checkpoints_secs,
    )
    evaluation = InlineEvaluation(estimator, train_spec, eval_spec)
    _train(estimator, train_spec, [evaluation])
    if evaluation.last is None:
        return None, None
    return evaluation.last.metrics, evaluation.last.exports


def _train(estimator: Estimator, train_spec: TrainSpec, listeners: Sequence[Any]) -> None:
    estimator.train(
        train_spec.input_fn,
        hooks=train_spec.hooks,
        max_steps=train_spec.max_steps,
        saving_listeners=[*train_spec.saving_listeners, *listeners],
    )


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
        self._first_step: int | None = (step_of(self._estimator.latest_checkpoint() or "") or 0) + 1

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


class ContinuousEvaluation:
    """What an evaluator task does: evaluates each new checkpoint until the training has ended.

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
            result = self._evaluator.evaluate_and_export()
            if result.metrics is not None and self._is_last(int(result.metrics["global_step"])):
                return
            self._pause(result, elapsed_secs=self._clock() - start)

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
