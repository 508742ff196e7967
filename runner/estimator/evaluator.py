"""What happens to each new checkpoint beside a training: it is evaluated, and its exporters run."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import tensorflow as tf

from runner.checkpoint.listing import CheckpointFollower
from runner.checkpoint.reading import exists
from runner.errors import CheckpointError, ConditionFailedError, ObjectNotFoundError
from runner.estimator.estimator import Estimator
from runner.estimator.train_spec import EvalSpec

__all__ = ["EvalResult", "EvalStatus", "Evaluator", "run_exporters"]

_logger = logging.getLogger("tensorflow")

_WARN_EVERY_SECS = 600.0


class EvalStatus(StrEnum):
    """What became of one look for a checkpoint."""

    EVALUATED = "evaluated"
    MISSING_CHECKPOINT = "missing checkpoint"
    NO_NEW_CHECKPOINT = "no new checkpoint"


@dataclass(frozen=True)
class EvalResult:
    """The result of one look for a checkpoint.

    Attributes:
        status: Whether there was one to evaluate.
        metrics: By name, with `global_step`; None unless it was evaluated.
        exports: What each exporter returned: the path of its export, or None where it made none.
    """

    status: EvalStatus
    metrics: dict[str, Any] | None = None
    exports: list[Any] = field(default_factory=list)


class Evaluator:
    """Evaluates the latest checkpoint, each only once, and exports it.

    Args:
        estimator: The estimator.
        eval_spec: Input, hooks and exporters of the evaluation.
        max_steps: Where the training ends; the exports of a checkpoint at or after that step are the final ones.
            None if it is not known.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        estimator: Estimator,
        eval_spec: EvalSpec,
        *,
        max_steps: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._estimator = estimator
        self._follower = CheckpointFollower(estimator.model_dir)
        self._spec = eval_spec
        self._max_steps = max_steps
        self._clock = clock
        self._evaluated: str | None = None
        self._warned_at: float | None = None

    def evaluate_and_export(self) -> EvalResult:
        """Evaluates the latest checkpoint and runs the exporters, unless it was the latest one the last time too.

        Returns:
            The result. A checkpoint that its chief deletes while it is being read counts as no new one: a newer one
            is there by then.
        """
        path = self._follower.poll()
        if path is None:
            self._warn("Estimator is not trained yet. Will start an evaluation when a checkpoint is ready.")
            return EvalResult(EvalStatus.MISSING_CHECKPOINT)
        if path == self._evaluated:
            self._warn(
                "No new checkpoint ready for evaluation. Skip the current evaluation pass as evaluation results are "
                "expected to be same for the same checkpoint."
            )
            return EvalResult(EvalStatus.NO_NEW_CHECKPOINT)
        try:
            result = self._evaluate(path)
        except (tf.errors.OpError, CheckpointError, ConditionFailedError, ObjectNotFoundError, ValueError):
            if exists(path):
                raise
            _logger.warning("%s was deleted during its evaluation. Set a larger keep_checkpoint_max to keep it.", path)
            return EvalResult(EvalStatus.NO_NEW_CHECKPOINT)
        self._evaluated = path
        self._warned_at = None
        return result

    def _evaluate(self, path: str) -> EvalResult:
        metrics = self._estimator.evaluate(
            self._spec.input_fn,
            steps=self._spec.steps,
            hooks=self._spec.hooks,
            checkpoint_path=path,
            name=self._spec.name,
        )
        is_final = self._max_steps is not None and bool(metrics["global_step"] >= self._max_steps)
        exports = run_exporters(
            self._estimator, self._spec.exporters, checkpoint_path=path, metrics=metrics, is_final=is_final
        )
        return EvalResult(EvalStatus.EVALUATED, metrics, exports)

    def _warn(self, message: str) -> None:
        """Warns, but not at every look of a loop that waits for a checkpoint."""
        if self._warned_at is None or self._clock() > self._warned_at + _WARN_EVERY_SECS:
            self._warned_at = self._clock()
            _logger.warning(message)


def run_exporters(
    estimator: Estimator,
    exporters: Sequence[Any],
    *,
    checkpoint_path: str | None,
    metrics: dict[str, Any],
    is_final: bool,
) -> list[Any]:
    """Has each exporter export to `export/<its name>` in model_dir.

    Args:
        estimator: The estimator.
        exporters: Objects with `name` and `export`.
        checkpoint_path: What was evaluated; None if there was no checkpoint.
        metrics: The result of that evaluation.
        is_final: Whether the training is over.

    Returns:
        What each of them returned.
    """
    return [
        exporter.export(
            estimator=estimator,
            export_path=os.path.join(estimator.model_dir, "export", exporter.name),
            checkpoint_path=checkpoint_path,
            eval_result=metrics,
            is_the_final_export=is_final,
        )
        for exporter in exporters
    ]
