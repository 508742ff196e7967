"""What an evaluator task follows, beside a training that gets on while it waits."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.errors import StoreUnavailableError
from runner.estimator.continuous_evaluation import ContinuousEvaluation
from tests.estimator.data import linear_input_fn, linear_model_fn
from tests.estimator.exporting import RecordingExporter


def linear(model_dir: Path) -> tfe.Estimator:
    return tfe.Estimator(linear_model_fn, str(model_dir), tfe.RunConfig(save_checkpoints_steps=1000), params={})


def endless_input_fn() -> tf.data.Dataset:
    return linear_input_fn().repeat()


def eval_spec(*exporters: RecordingExporter, **options: Any) -> tfe.EvalSpec:
    return tfe.EvalSpec(linear_input_fn, **{"steps": 1, "throttle_secs": 0, "exporters": exporters, **options})


def lines(info_log: pytest.LogCaptureFixture, *starts: str) -> list[str]:
    return [message for message in info_log.messages if message.startswith(starts)]


class Training:
    """A training that gets on while the evaluator waits; its clock counts seconds of waiting."""

    def __init__(self, estimator: tfe.Estimator, *, until: list[int | None]) -> None:
        self._estimator = estimator
        self._until: Iterator[int | None] = iter(until)
        self.waits: list[float] = []
        self.now = 0.0

    def sleep(self, secs: float) -> None:
        self.waits.append(secs)
        self.now += secs
        if (step := next(self._until)) is not None:
            self._estimator.train(endless_input_fn, max_steps=step)

    def clock(self) -> float:
        return self.now


@pytest.fixture
def follow(tmp_path: Path) -> Callable[..., Training]:
    """Runs an evaluator until max_steps=6, beside a training that reaches a step during each wait."""

    def run(spec: tfe.EvalSpec, *, until: list[int | None]) -> Training:
        estimator = linear(tmp_path)
        training = Training(estimator, until=until)
        train_spec = tfe.TrainSpec(endless_input_fn, max_steps=6)
        ContinuousEvaluation(estimator, train_spec, spec, clock=training.clock, sleep=training.sleep).run()
        return training

    return run


def test_an_evaluator_follows_the_latest_checkpoint_to_the_last_step(
    follow: Callable[..., Training], info_log: pytest.LogCaptureFixture
) -> None:
    exporter = RecordingExporter("latest")

    training = follow(eval_spec(exporter, start_delay_secs=120, throttle_secs=10), until=[None, 2, None, 4, 6])

    assert [(call["step"], call["is_final"]) for call in exporter.calls] == [(2, False), (4, False), (6, True)]
    assert training.waits == [120, 10, 10, 10, 10]
    assert lines(info_log, "Waiting", "Estimator is not", "No new", "Exiting", "Saving dict") == [
        "Waiting 120.000000 secs before starting eval.",
        "Estimator is not trained yet. Will start an evaluation when a checkpoint is ready.",
        "Waiting 10.000000 secs before starting next eval run.",
        *lines(info_log, "Saving dict for global step 2:"),
        "Waiting 10.000000 secs before starting next eval run.",
        "No new checkpoint ready for evaluation. Skip the current evaluation pass as evaluation results are expected "
        "to be same for the same checkpoint.",
        "Waiting 10.000000 secs before starting next eval run.",
        *lines(info_log, "Saving dict for global step 4:"),
        "Waiting 10.000000 secs before starting next eval run.",
        *lines(info_log, "Saving dict for global step 6:"),
        "Exiting evaluation, global_step=6 >= train max_steps=6",
    ]


def test_an_evaluator_warns_of_a_missing_checkpoint_every_ten_minutes(
    follow: Callable[..., Training], info_log: pytest.LogCaptureFixture
) -> None:
    follow(eval_spec(start_delay_secs=0, throttle_secs=400), until=[None, None, None, None, 6])

    # At 0, 800 and 1600 s; not at 400 and 1200.
    assert len(lines(info_log, "Estimator is not trained yet.")) == 3


def test_an_evaluator_without_throttle_secs_warns_and_does_not_spin(
    follow: Callable[..., Training], info_log: pytest.LogCaptureFixture
) -> None:
    training = follow(eval_spec(start_delay_secs=0), until=[6])

    assert training.waits == [1.0]
    assert lines(info_log, "EvalSpec.throttle_secs is set as 0.") == [
        "EvalSpec.throttle_secs is set as 0. This might overload the job before finding (next) new checkpoint. "
        "Please consider to increase it."
    ]


def test_an_evaluator_goes_on_with_the_newest_if_its_checkpoint_is_deleted(
    tmp_path: Path, follow: Callable[..., Training], info_log: pytest.LogCaptureFixture
) -> None:
    class Overtaken(RecordingExporter):
        """At its first call, the training publishes another checkpoint, and deletes what is being exported."""

        def export(self, *, estimator: Any, checkpoint_path: str, **options: Any) -> bytes:
            if checkpoint_path.endswith("-2"):
                estimator.train(endless_input_fn, max_steps=6)
                for path in tmp_path.glob("model.ckpt-2.*"):
                    path.unlink()
                tf.train.load_checkpoint(checkpoint_path)
            return super().export(estimator=estimator, checkpoint_path=checkpoint_path, **options)

    exporter = Overtaken("latest")

    follow(eval_spec(exporter, start_delay_secs=0, throttle_secs=1), until=[2, None])

    assert exporter.steps == [6]
    (record,) = [record for record in info_log.records if "was deleted during its evaluation" in record.message]
    assert record.levelno == logging.WARNING


def test_an_evaluator_that_fails_says_why(follow: Callable[..., Training]) -> None:
    class Failing(RecordingExporter):
        def export(self, **_: Any) -> bytes:
            raise ValueError("by the exporter")

    with pytest.raises(ValueError, match="by the exporter"):
        follow(eval_spec(Failing("latest"), start_delay_secs=0, throttle_secs=1), until=[2])


def test_an_evaluator_outlasts_an_outage_of_the_store(
    follow: Callable[..., Training], info_log: pytest.LogCaptureFixture
) -> None:
    class Unreachable(RecordingExporter):
        """Writes to a store that does not answer at first."""

        def export(self, **arguments: Any) -> bytes:
            path = super().export(**arguments)
            if len(self.calls) == 1:
                raise StoreUnavailableError("s3://models does not answer.")
            return path

    exporter = Unreachable("latest")

    follow(eval_spec(exporter, start_delay_secs=0, throttle_secs=10), until=[6, None])

    assert [call["step"] for call in exporter.calls] == [6, 6]
    assert lines(info_log, "This look for a checkpoint was in vain, and the evaluator goes on: s3://models")
