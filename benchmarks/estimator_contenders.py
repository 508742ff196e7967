"""Contenders that train with an Estimator: ours, or the original under TensorFlow 2.15.

`python -m benchmarks.estimator_contenders {ours,original} {iris,mnist,train,predict}`
"""

import itertools
import sys
import tempfile
import time
from typing import Any

import tensorflow as tf

from benchmarks.turns import Turns, serve
from benchmarks.workloads import WORKLOADS, Workload

__all__ = ["main"]


class _Clock:
    """Takes turns from within a training: told of a step at which a turn begins or ends."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._steps = self._start = 0.0
        self.due = 1

    def tell(self, step: int) -> bool:
        """Goes on with the turn, or waits for the next one.

        Returns:
            Whether there is none.
        """
        if self._start:
            self._turns.report(time.perf_counter() - self._start)
            self._start = 0.0
        elif self._steps:
            self._start, self.due = time.perf_counter(), step + int(self._steps)
            return False
        self._steps = self._turns.next() or 0
        self.due = step + int(self._steps) // 4
        return not self._steps


def train_in_turns(estimator: Any, hook: Any, workload: Workload) -> None:
    """One long training, whose hook stops the clock."""
    with tempfile.TemporaryDirectory() as model_dir:
        workload.classifier(estimator, model_dir).train(workload.input_fn, hooks=[hook])


def _our_hook() -> Any:
    from runner.estimator.hooks.step_hook import StepHook  # noqa: PLC0415 - not there under TensorFlow 2.15

    class Hook(StepHook):
        """Waits for turns, and for no other step."""

        def __init__(self) -> None:
            self._clock = _Clock()
            self._step = 0

        def next_due(self, step: int) -> float:
            return max(self._clock.due, step + 1)

        def passed_over(self, runs: int, step: int, loss: Any) -> None:  # noqa: ARG002 - signature of the base
            self._step += runs

        def after_run(self, run_context: Any, run_values: Any) -> None:  # noqa: ARG002 - signature of the base
            self._step += 1
            if self._step >= self._clock.due and self._clock.tell(self._step):
                run_context.request_stop()

    return Hook()


def _original_hook() -> Any:
    class Hook(tf.compat.v1.train.SessionRunHook):  # type: ignore[misc, unused-ignore]
        """Counts the steps, which costs less than a millionth of a second each."""

        def __init__(self) -> None:
            self._clock = _Clock()
            self._step = 0

        def after_run(self, run_context: Any, run_values: Any) -> None:  # noqa: ARG002 - signature of the base
            self._step += 1
            if self._step >= self._clock.due and self._clock.tell(self._step):
                run_context.request_stop()

    return Hook()


def _train_once(estimator: Any) -> None:
    workload = WORKLOADS["iris"]

    def run(times: int) -> None:
        for _ in range(times):
            with tempfile.TemporaryDirectory() as model_dir:
                workload.classifier(estimator, model_dir).train(workload.input_fn, steps=1)

    serve(run)


def _predict_again(estimator: Any) -> None:
    """A `predict` of 150 rows by an estimator that has predicted before."""
    workload = WORKLOADS["iris"]
    with tempfile.TemporaryDirectory() as model_dir:
        classifier = workload.classifier(estimator, model_dir)
        classifier.train(workload.input_fn, steps=10)

        def predict() -> None:
            rows = list(itertools.islice(classifier.predict(lambda: workload.input_fn().unbatch().batch(50)), 150))
            assert len(rows) == 150  # noqa: PLR2004 - the work is done

        def run(times: int) -> None:
            for _ in range(times):
                predict()

        predict()
        serve(run)


def main(who: str, what: str) -> None:
    """Takes turns at the work until there are none left."""
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.WARN)
    if who == "ours":
        from runner import estimator  # noqa: PLC0415 - not there under TensorFlow 2.15
    else:
        estimator = tf.estimator
    if what == "train":
        _train_once(estimator)
    elif what == "predict":
        _predict_again(estimator)
    else:
        train_in_turns(estimator, _our_hook() if who == "ours" else _original_hook(), WORKLOADS[what])


if __name__ == "__main__":
    main(*sys.argv[1:])
