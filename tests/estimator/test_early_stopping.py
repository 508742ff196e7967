"""Hooks that end a training early."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator.hooks.early_stopping import read_eval_metrics
from tests.estimator.data import linear_input_fn, linear_model_fn, steps_of

WORKER = {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}


def linear(model_dir: Path, **config: Any) -> tfe.Estimator:
    return tfe.Estimator(linear_model_fn, str(model_dir), tfe.RunConfig(**config), params={})


def write(eval_dir: Path, name: str, values: dict[int, float]) -> None:
    """Writes what evaluations at those steps would have."""
    with tf.Graph().as_default(), tf.compat.v1.summary.FileWriter(str(eval_dir)) as writer:
        for step, value in values.items():
            summary = tf.compat.v1.Summary(value=[tf.compat.v1.Summary.Value(tag=name, simple_value=value)])
            writer.add_summary(summary, step)


def last_step(estimator: tfe.Estimator, hook: Any) -> int:
    """The step at which a training with the hook ends, of ten."""
    estimator.train(linear_input_fn, hooks=[hook])
    return int(estimator.get_variable_value("global_step"))


def test_a_function_ends_the_training(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    answers = iter([False, False, True])
    estimator = linear(tmp_path)
    hook = tfe.experimental.make_early_stopping_hook(
        estimator, lambda: next(answers), run_every_secs=None, run_every_steps=2
    )

    assert last_step(estimator, hook) == 5  # asked at 1, 3 and 5
    assert "Requesting early stopping at global step 5" in info_log.messages


def test_between_two_questions_steps_pass_no_hook(tmp_path: Path) -> None:
    answers, estimator = iter([False] * 4 + [True]), linear(tmp_path)
    hook = tfe.experimental.make_early_stopping_hook(
        estimator, lambda: next(answers), run_every_secs=None, run_every_steps=60
    )

    assert [hook.next_due(step) for step in (0, 7)] == [1, 8]  # it was never asked
    estimator.train(lambda: linear_input_fn().repeat(), hooks=[hook])

    assert estimator.get_variable_value("global_step") == 241
    assert [hook.next_due(step) for step in (241, 300)] == [301, 301]


def test_within_run_every_secs_it_is_asked_once(tmp_path: Path) -> None:
    answers = iter([False])
    estimator = linear(tmp_path)
    hook = tfe.experimental.make_early_stopping_hook(estimator, lambda: next(answers), run_every_secs=600)

    assert last_step(estimator, hook) == 10
    assert list(answers) == []


def test_a_hook_is_used_again(tmp_path: Path) -> None:
    estimator = linear(tmp_path)
    hook = tfe.experimental.make_early_stopping_hook(estimator, lambda: True, run_every_secs=None, run_every_steps=100)

    assert [last_step(estimator, hook), last_step(estimator, hook)] == [1, 2]


def test_checkpoints_have_the_variable_of_the_original(tmp_path: Path) -> None:
    answers, estimator = iter([False, True]), linear(tmp_path)
    hook = tfe.experimental.make_early_stopping_hook(
        estimator, lambda: next(answers), run_every_secs=None, run_every_steps=2
    )
    estimator.train(linear_input_fn, hooks=[hook])

    assert steps_of(tmp_path) == [1, 3]
    assert estimator.get_variable_value("signal_early_stopping/STOP")
    assert "loss" in estimator.evaluate(linear_input_fn)


def test_a_worker_asks_nothing_and_has_the_same_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps(WORKER))
    hook = tfe.experimental.make_early_stopping_hook(linear(tmp_path), lambda: pytest.fail("asked"))

    with tf.Graph().as_default():
        hook.begin()
        (variable,) = tf.compat.v1.global_variables()

    assert (variable.op.name, variable.dtype, variable.trainable) == ("signal_early_stopping/STOP", tf.bool, False)
    assert hook.before_run(None) is None


@pytest.mark.parametrize(
    ("make", "limit", "stops"),
    [
        ("stop_if_higher_hook", 0.6, True),
        ("stop_if_higher_hook", 0.7, False),  # 0.7 is not higher than itself
        ("stop_if_lower_hook", 0.6, True),
        ("stop_if_lower_hook", 0.5, False),
        ("stop_if_no_increase_hook", 20, True),  # 0.7 at 20, and no more at 40
        ("stop_if_no_increase_hook", 21, False),
        ("stop_if_no_decrease_hook", 30, True),  # 0.5 at 10, and no less at 40
        ("stop_if_no_decrease_hook", 31, False),
    ],
)
def test_what_evaluations_have_written_ends_the_training(
    tmp_path: Path, make: str, limit: float, *, stops: bool
) -> None:
    estimator = linear(tmp_path)
    write(tmp_path / "eval", "score", {10: 0.5, 20: 0.7, 40: 0.6})

    hook = getattr(tfe.experimental, make)(estimator, "score", limit, run_every_secs=None, run_every_steps=1)

    assert last_step(estimator, hook) == (1 if stops else 10)


@pytest.mark.parametrize(
    ("make", "limit", "line"),
    [
        (
            "stop_if_higher_hook",
            0.25,
            'At step 20, metric "score" has value 0.5 which is greater than the configured threshold (0.25) for early '
            "stopping.",
        ),
        (
            "stop_if_lower_hook",
            0.75,
            'At step 20, metric "score" has value 0.5 which is less than the configured threshold (0.75) for early '
            "stopping.",
        ),
        (
            "stop_if_no_increase_hook",
            20,
            'No increase in metric "score" for 20 steps, which is greater than or equal to max steps (20) configured '
            "for early stopping.",
        ),
        (
            "stop_if_no_decrease_hook",
            15,
            'No decrease in metric "score" for 20 steps, which is greater than or equal to max steps (15) configured '
            "for early stopping.",
        ),
    ],
)
def test_earlier_evaluations_do_not_count_and_the_reason_is_logged(
    tmp_path: Path, info_log: pytest.LogCaptureFixture, make: str, limit: float, line: str
) -> None:
    estimator, eval_dir = linear(tmp_path), tmp_path / "elsewhere"
    write(eval_dir, "score", {5: 0.0, 10: 1.0, 20: 0.5, 40: 0.5})

    hook = getattr(tfe.experimental, make)(estimator, "score", limit, str(eval_dir), 20, None, 1)

    assert last_step(estimator, hook) == 1
    assert line in info_log.messages


def test_without_an_evaluation_the_training_goes_on(tmp_path: Path) -> None:
    estimator = linear(tmp_path)

    assert last_step(estimator, tfe.experimental.stop_if_lower_hook(estimator, "loss", 1e9)) == 10


def test_a_metric_that_is_not_evaluated_is_an_error(tmp_path: Path) -> None:
    estimator = linear(tmp_path)
    write(tmp_path / "eval", "score", {10: 0.5})

    with pytest.raises(KeyError, match=r"accuracy: the metrics of step 10 in .*/eval are \['score'\]"):
        last_step(estimator, tfe.experimental.stop_if_higher_hook(estimator, "accuracy", 0.9))


def test_metrics_of_an_evaluation_are_read_by_step(tmp_path: Path) -> None:
    estimator = linear(tmp_path, save_checkpoints_steps=2)
    for step in (4, 2):
        estimator.train(linear_input_fn, steps=step)
        metrics = estimator.evaluate(linear_input_fn, name="test")

    read = read_eval_metrics(estimator.eval_dir("test"))

    assert list(read) == [4, 6]
    assert read[6] == {"loss": pytest.approx(metrics["loss"])}


def test_a_file_that_is_still_being_written_is_read_as_far_as_it_goes(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "score", {10: 0.5, 20: 0.7})
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])

    assert read_eval_metrics(str(tmp_path)) == {10: {"score": 0.5}}
    (record,) = [
        record for record in info_log.records if record.message.startswith(f"The event file {path} ends in the")
    ]
    assert record.levelno == logging.WARNING


def test_an_evaluation_amid_the_training_ends_it(tmp_path: Path) -> None:
    estimator = linear(tmp_path, save_checkpoints_steps=2)
    hook = tfe.experimental.stop_if_lower_hook(estimator, "loss", 1e9, run_every_secs=None, run_every_steps=1)

    result = tfe.train_and_evaluate(
        estimator,
        tfe.TrainSpec(linear_input_fn, max_steps=9, hooks=[hook]),
        tfe.EvalSpec(linear_input_fn, throttle_secs=0),
    )

    assert result is not None
    assert result[0] is not None
    assert result[0]["global_step"] == 2
    assert steps_of(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"estimator": 3}, TypeError, "`estimator` must have type `tf.estimator.Estimator`. Got: <class 'int'>"),
        ({"should_stop_fn": 3}, TypeError, "`should_stop_fn` must be callable."),
        (
            {"run_every_secs": 1, "run_every_steps": 1},
            ValueError,
            "Only one of `run_every_secs` and `run_every_steps` must be set.",
        ),
        ({"run_every_secs": None}, ValueError, "Either every_secs or every_steps should be provided."),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        tfe.experimental.make_early_stopping_hook(
            **{"estimator": linear(tmp_path), "should_stop_fn": lambda: True, **arguments}
        )

    assert str(caught.value) == message
