"""train_and_evaluate: what one task does of a training that is evaluated while it runs."""

import logging
from collections.abc import Sequence
from typing import Any

from runner.estimator.continuous_evaluation import ContinuousEvaluation
from runner.estimator.estimator import Estimator
from runner.estimator.inline_evaluation import InlineEvaluation
from runner.estimator.replicas.replicas import replicas_of
from runner.estimator.train_spec import EvalSpec, TrainSpec

__all__ = ["train_and_evaluate"]

_logger = logging.getLogger("tensorflow")

_TASK_TYPES = ("chief", "evaluator", "master", "ps", "worker")


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
    if config.task_type == "ps":
        replicas_of(config)  # raises: there are no parameter servers
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
