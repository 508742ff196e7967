"""Experiment: an estimator with what it is trained and evaluated on; what the entry of a job returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.checkpoint.retention import KeepBest
from runner.estimator.estimator import Estimator
from runner.estimator.evaluator import run_exporters
from runner.estimator.hooks.keep_best_hook import KeepBestHook
from runner.estimator.train_spec import EvalSpec, TrainSpec

__all__ = ["Experiment", "KeepBest"]


@dataclass(frozen=True)
class Experiment:
    """One training, and the evaluation after it.

    Args:
        estimator: The estimator.
        train_spec: Input and end of the training.
        eval_spec: Input and exporters of the evaluation; None means that there is none.
        keep_best: Which checkpoint is kept beyond the newest, for its metric in the evaluations that there are while
            the training goes on, as by an evaluator task; None keeps none.

    Raises:
        TypeError: An argument is of another type.
    """

    estimator: Estimator
    train_spec: TrainSpec
    eval_spec: EvalSpec | None = None
    keep_best: KeepBest | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.estimator, Estimator):
            raise TypeError(f"`estimator` must have type `Estimator`. Got: {type(self.estimator)}")
        if not isinstance(self.train_spec, TrainSpec):
            raise TypeError(f"`train_spec` must have type `TrainSpec`. Got: {type(self.train_spec)}")
        if self.eval_spec is not None and not isinstance(self.eval_spec, EvalSpec):
            raise TypeError(f"`eval_spec` must have type `EvalSpec`. Got: {type(self.eval_spec)}")
        if self.keep_best is not None and not isinstance(self.keep_best, KeepBest):
            raise TypeError(f"`keep_best` must have type `KeepBest`. Got: {type(self.keep_best)}")

    def train(self, *, hooks: Sequence[Any] = ()) -> None:
        """Trains to the end of the train_spec.

        Args:
            hooks: Further tf.compat.v1.train.SessionRunHook.
        """
        keeping = [] if self.keep_best is None else [KeepBestHook(self.keep_best)]
        self.estimator.train(
            self.train_spec.input_fn,
            hooks=[*self.train_spec.hooks, *hooks, *keeping],
            max_steps=self.train_spec.max_steps,
            saving_listeners=self.train_spec.saving_listeners,
        )

    def evaluate(self) -> dict[str, Any] | None:
        """Evaluates and exports the latest checkpoint on the chief; elsewhere, and without an eval_spec, does nothing.

        To the exporters it is the final export, whatever max_steps is: the training is over.

        Returns:
            Metrics by name, or None.
        """
        spec = self.eval_spec
        if spec is None or not self.estimator.config.is_chief:
            return None
        path = self.estimator.latest_checkpoint()
        metrics = self.estimator.evaluate(
            spec.input_fn, steps=spec.steps, hooks=spec.hooks, checkpoint_path=path, name=spec.name
        )
        run_exporters(self.estimator, spec.exporters, checkpoint_path=path, metrics=metrics, is_final=True)
        return metrics

    def run(self) -> dict[str, Any] | None:
        """Trains, then evaluates and exports on the chief: all that a task of a job does, under any TF_CONFIG or none.

        Returns:
            Metrics by name, on a chief with an eval_spec; None elsewhere.
        """
        self.train()
        return self.evaluate()
