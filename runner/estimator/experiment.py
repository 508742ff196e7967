"""Experiment: an estimator with what it is trained and evaluated on; what the entry of a job returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.estimator.estimator import Estimator
from runner.estimator.train_spec import EvalSpec, TrainSpec

__all__ = ["Experiment"]


@dataclass(frozen=True)
class Experiment:
    """One training, and the evaluation after it.

    Args:
        estimator: The estimator.
        train_spec: Input and end of the training.
        eval_spec: Input of the evaluation; None means that there is none.

    Raises:
        TypeError: An argument is of another type.
        ValueError: The eval_spec has exporters, which are not run.
    """

    estimator: Estimator
    train_spec: TrainSpec
    eval_spec: EvalSpec | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.estimator, Estimator):
            raise TypeError(f"`estimator` must have type `Estimator`. Got: {type(self.estimator)}")
        if not isinstance(self.train_spec, TrainSpec):
            raise TypeError(f"`train_spec` must have type `TrainSpec`. Got: {type(self.train_spec)}")
        if self.eval_spec is not None and not isinstance(self.eval_spec, EvalSpec):
            raise TypeError(f"`eval_spec` must have type `EvalSpec`. Got: {type(self.eval_spec)}")
        if self.eval_spec is not None and self.eval_spec.exporters:
            raise ValueError("The evaluation after a training runs no exporters: leave them out of the EvalSpec.")

    def train(self, *, hooks: Sequence[Any] = ()) -> None:
        """Trains to the end of the train_spec.

        Args:
            hooks: Further tf.compat.v1.train.SessionRunHook.
        """
        self.estimator.train(
            self.train_spec.input_fn,
            hooks=[*self.train_spec.hooks, *hooks],
            max_steps=self.train_spec.max_steps,
            saving_listeners=self.train_spec.saving_listeners,
        )

    def evaluate(self) -> dict[str, Any] | None:
        """Evaluates the latest checkpoint on the chief; elsewhere, and without an eval_spec, there is nothing to do.

        Returns:
            Metrics by name, or None.
        """
        if self.eval_spec is None or not self.estimator.config.is_chief:
            return None
        return self.estimator.evaluate(
            self.eval_spec.input_fn, steps=self.eval_spec.steps, hooks=self.eval_spec.hooks, name=self.eval_spec.name
        )

    def run(self) -> dict[str, Any] | None:
        """Trains, then evaluates on the chief: the whole of what a task of a job does, under any TF_CONFIG or none.

        Returns:
            Metrics by name, on a chief with an eval_spec; None elsewhere.
        """
        self.train()
        return self.evaluate()
