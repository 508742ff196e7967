"""StepHook: a hook that knows ahead at which steps it has something to do."""

import math
from typing import Any

import tensorflow as tf

__all__ = ["FetchingStepHook", "StepHook"]


class StepHook(tf.compat.v1.train.SessionRunHook):
    """A SessionRunHook that need not be told of every run.

    The runs between those at which any hook has something to do pass no hook at all, which makes them several times as
    quick. A hook that is no StepHook, and has a `before_run` or `after_run`, is told of every run; so is one of a
    subclass that overrides these and not `next_due`, since what that says is known to suffice the base only.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "next_due" not in vars(cls) and vars(cls).keys() & {"before_run", "after_run"}:
            cls.next_due = cls._every_run  # type: ignore[method-assign]

    def next_due(self, step: int) -> float:
        """The first step after `step` that this hook has to be told of.

        A hook of the clock returns `step + 1` if it is due, else infinity: it is asked again every few hundredths of a
        second.

        Args:
            step: The global_step reached.

        Returns:
            A step, or infinity.
        """
        del step
        return math.inf

    def _every_run(self, step: int) -> float:
        return step + 1

    def passed_over(self, runs: int, step: int, loss: Any) -> None:
        """Called after runs that this hook was not told of.

        Args:
            runs: Their number.
            step: The global_step that they reached.
            loss: The loss of the last of them.
        """


class FetchingStepHook(StepHook):
    """A hook that fetches the step; subclasses get it in `after_step`.

    Args:
        step: int64 scalar, the global_step after the update of the run.
    """

    def __init__(self, step: Any) -> None:
        self._step = step

    def before_run(self, run_context: Any) -> Any:  # noqa: ARG002 - signature of the base
        return tf.compat.v1.train.SessionRunArgs(self._step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.after_step(run_context, int(run_values.results))

    def after_step(self, run_context: Any, step: int) -> None:
        """Called after every run with the global_step that it reached."""
        raise NotImplementedError
