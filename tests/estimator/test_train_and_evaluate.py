"""train_and_evaluate in one process: what is evaluated and exported, and when."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.data import classifier, eval_input_fn, linear_input_fn, linear_model_fn, steps_of, train_input_fn
from tests.estimator.exporting import RecordingExporter

CLUSTER = {"chief": ["h0:1"], "worker": ["h1:1", "h2:1"], "ps": ["p0:1"]}


def linear(model_dir: Path, **config: Any) -> tfe.Estimator:
    return tfe.Estimator(linear_model_fn, str(model_dir), tfe.RunConfig(**config), params={})


def endless_input_fn() -> tf.data.Dataset:
    return linear_input_fn().repeat()


def eval_spec(*exporters: RecordingExporter, **options: Any) -> tfe.EvalSpec:
    return tfe.EvalSpec(linear_input_fn, **{"steps": 1, "throttle_secs": 0, "exporters": exporters, **options})


def evaluated_steps(eval_dir: Path) -> list[int]:
    """The steps at which `loss` was written."""
    events = [event for path in eval_dir.iterdir() for event in tf.compat.v1.train.summary_iterator(str(path))]
    return sorted(event.step for event in events for value in event.summary.value if value.tag == "loss")


def lines(info_log: pytest.LogCaptureFixture, *starts: str) -> list[str]:
    return [message for message in info_log.messages if message.startswith(starts)]


def test_every_checkpoint_but_the_first_is_evaluated_and_exported(tmp_path: Path) -> None:
    latest, other = RecordingExporter("latest"), RecordingExporter("other")
    estimator = linear(tmp_path, save_checkpoints_steps=2)

    result = tfe.train_and_evaluate(estimator, tfe.TrainSpec(endless_input_fn, max_steps=5), eval_spec(latest, other))

    assert steps_of(tmp_path) == [1, 2, 4, 5]
    assert evaluated_steps(tmp_path / "eval") == latest.steps == other.steps == [2, 4, 5]
    assert [call["checkpoint"] for call in latest.calls] == ["model.ckpt-2", "model.ckpt-4", "model.ckpt-5"]
    assert [call["is_final"] for call in latest.calls] == [False, False, True]
    assert result is not None
    metrics, exports = result
    assert metrics is not None
    assert metrics["global_step"] == 5
    assert metrics == estimator.evaluate(linear_input_fn, steps=1)
    assert exports == [f"{tmp_path}/export/latest/5".encode(), f"{tmp_path}/export/other/5".encode()]


def test_the_log_is_that_of_the_original(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    estimator = linear(tmp_path, save_checkpoints_steps=2)
    info_log.clear()

    tfe.train_and_evaluate(estimator, tfe.TrainSpec(endless_input_fn, max_steps=2), eval_spec())

    assert info_log.messages[:3] == [
        "Not using Distribute Coordinator.",
        "Running training and evaluation locally (non-distributed).",
        "Start train and evaluate loop. The evaluate will happen after every checkpoint. Checkpoint frequency is "
        "determined based on RunConfig arguments: save_checkpoints_steps 2 or save_checkpoints_secs None.",
    ]
    assert lines(info_log, "Calling checkpoint", "Saving checkpoints", "Starting", "Saving dict", "Loss for") == [
        "Calling checkpoint listeners before saving checkpoint 1...",
        f"Saving checkpoints for 1 into {tmp_path}/model.ckpt.",
        "Calling checkpoint listeners after saving checkpoint 1...",
        "Calling checkpoint listeners before saving checkpoint 2...",
        f"Saving checkpoints for 2 into {tmp_path}/model.ckpt.",
        "Calling checkpoint listeners after saving checkpoint 2...",
        *lines(info_log, "Starting evaluation at "),
        *lines(info_log, "Saving dict for global step 2: global_step = 2, loss = "),
        *lines(info_log, "Loss for final step: "),
    ]


def test_it_says_that_all_is_done_and_evaluates_nothing(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    estimator, train_spec = linear(tmp_path), tfe.TrainSpec(endless_input_fn, max_steps=2)
    tfe.train_and_evaluate(estimator, train_spec, eval_spec())
    exporter = RecordingExporter("latest")
    info_log.clear()

    result = tfe.train_and_evaluate(estimator, train_spec, eval_spec(exporter))

    assert result == (None, None)
    assert exporter.calls == []
    assert info_log.messages[-1] == "Skipping training since max_steps has already saved."


def test_a_training_goes_on_and_leaves_the_checkpoint_it_begins_with_out(tmp_path: Path) -> None:
    estimator, exporter = linear(tmp_path, save_checkpoints_steps=10), RecordingExporter("latest")
    tfe.train_and_evaluate(estimator, tfe.TrainSpec(endless_input_fn, max_steps=3), eval_spec())

    tfe.train_and_evaluate(estimator, tfe.TrainSpec(endless_input_fn, max_steps=6), eval_spec(exporter))

    assert steps_of(tmp_path) == [1, 3, 4, 6]
    assert exporter.steps == [6]


def test_a_training_of_one_step_is_evaluated_at_its_end(tmp_path: Path) -> None:
    exporter = RecordingExporter("latest")

    result = tfe.train_and_evaluate(linear(tmp_path), tfe.TrainSpec(endless_input_fn, max_steps=1), eval_spec(exporter))

    assert [(call["step"], call["is_final"]) for call in exporter.calls] == [(1, True)]
    assert result is not None
    assert result[0] is not None


def test_without_max_steps_the_end_of_the_input_ends_it_and_no_export_is_final(tmp_path: Path) -> None:
    exporter = RecordingExporter("latest")
    estimator = linear(tmp_path, save_checkpoints_steps=4)

    result = tfe.train_and_evaluate(estimator, tfe.TrainSpec(linear_input_fn), eval_spec(exporter))

    assert [(call["step"], call["is_final"]) for call in exporter.calls] == [(4, False), (8, False), (10, False)]
    assert result is not None
    assert result[0] is not None
    assert result[0]["global_step"] == 10


def test_throttle_secs_leave_out_evaluations_but_not_the_last(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    estimator, exporter = linear(tmp_path, save_checkpoints_steps=2), RecordingExporter("latest")

    tfe.train_and_evaluate(
        estimator,
        tfe.TrainSpec(endless_input_fn, max_steps=7),
        eval_spec(exporter, throttle_secs=600),
    )

    assert exporter.steps == [2, 7]
    assert lines(info_log, "Skip") == ["Skip the current checkpoint eval due to throttle secs (600 secs)."] * 3


def test_what_a_checkpoint_hook_of_the_user_saves_is_evaluated_but_for_the_start(tmp_path: Path) -> None:
    estimator, exporter = linear(tmp_path), RecordingExporter("latest")
    for max_steps in (5, 9):
        hook = tfe.CheckpointSaverHook(str(tmp_path), save_steps=3)
        train_spec = tfe.TrainSpec(endless_input_fn, max_steps, hooks=[hook])
        tfe.train_and_evaluate(estimator, train_spec, eval_spec(exporter))

    assert steps_of(tmp_path) == [0, 3, 5, 8, 9]
    assert exporter.steps == [3, 5, 8, 9]


def test_without_checkpoints_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    estimator = linear(tmp_path, save_checkpoints_steps=None, save_checkpoints_secs=None)

    with pytest.raises(ValueError, match=r"^There should be a CheckpointSaverHook to use saving_listeners\."):
        tfe.train_and_evaluate(estimator, tfe.TrainSpec(linear_input_fn), eval_spec())


def test_listeners_and_hooks_of_the_specs_are_told(tmp_path: Path) -> None:
    told: list[str] = []

    class Listener(tf.compat.v1.train.CheckpointSaverListener):
        def after_save(self, session: Any, global_step_value: int) -> None:
            told.append(f"saved {global_step_value}")

    class Hook(tf.compat.v1.train.SessionRunHook):
        def __init__(self, name: str) -> None:
            self._name = name

        def end(self, session: Any) -> None:
            told.append(self._name)

    train_spec = tfe.TrainSpec(endless_input_fn, 2, hooks=[Hook("trained")], saving_listeners=[Listener()])

    tfe.train_and_evaluate(linear(tmp_path), train_spec, eval_spec(hooks=[Hook("evaluated")]))

    assert told == ["saved 1", "saved 2", "evaluated", "trained"]


def test_the_name_of_the_evaluation_is_that_of_its_directory(tmp_path: Path) -> None:
    tfe.train_and_evaluate(linear(tmp_path), tfe.TrainSpec(endless_input_fn, max_steps=2), eval_spec(name="test"))

    assert evaluated_steps(tmp_path / "eval_test") == [2]
    assert not (tmp_path / "eval").exists()


def test_a_canned_estimator_is_evaluated_amid_its_training(tmp_path: Path) -> None:
    estimator = classifier(tmp_path, save_checkpoints_steps=20)

    result = tfe.train_and_evaluate(
        estimator,
        tfe.TrainSpec(train_input_fn, max_steps=40),
        tfe.EvalSpec(eval_input_fn, steps=None, throttle_secs=0),
    )

    assert evaluated_steps(tmp_path / "eval") == [20, 40]
    assert result is not None
    assert result[0] == estimator.evaluate(eval_input_fn)


def test_an_evaluation_amid_a_training_does_not_change_it(tmp_path: Path) -> None:
    alone, evaluated = (classifier(tmp_path / name, save_checkpoints_steps=5) for name in ("alone", "evaluated"))
    alone.train(train_input_fn, max_steps=12)

    tfe.train_and_evaluate(
        evaluated, tfe.TrainSpec(train_input_fn, max_steps=12), tfe.EvalSpec(eval_input_fn, throttle_secs=0)
    )

    assert evaluated.evaluate(eval_input_fn) == alone.evaluate(eval_input_fn)


def test_an_error_of_an_exporter_ends_the_training(tmp_path: Path) -> None:
    class Failing(RecordingExporter):
        def export(self, **_: Any) -> bytes:
            raise ValueError("by the exporter")

    with pytest.raises(ValueError, match="by the exporter"):
        tfe.train_and_evaluate(
            linear(tmp_path, save_checkpoints_steps=2),
            tfe.TrainSpec(endless_input_fn, max_steps=6),
            eval_spec(Failing("latest")),
        )

    assert steps_of(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    ("position", "message"),
    [
        (0, "`estimator` must have type `tf.estimator.Estimator`. Got: <class 'int'>"),
        (1, "`train_spec` must have type `tf.estimator.TrainSpec`. Got: <class 'int'>"),
        (2, "`eval_spec` must have type `tf.estimator.EvalSpec`. Got: <class 'int'>"),
    ],
)
def test_arguments_of_other_types_are_refused(tmp_path: Path, position: int, message: str) -> None:
    arguments: list[Any] = [linear(tmp_path), tfe.TrainSpec(linear_input_fn), eval_spec()]
    arguments[position] = 3

    with pytest.raises(TypeError) as caught:
        tfe.train_and_evaluate(*arguments)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("cluster", "task", "message"),
    [
        (
            {"chief": ["a:1"], "master2": ["b:1"]},
            {"type": "master2", "index": 0},
            "Task type master2 is not supported. "
            "Supported task types are ['chief', 'evaluator', 'master', 'ps', 'worker']",
        ),
        (
            CLUSTER,
            {"type": "evaluator", "index": 1},
            "For distributed training, there can only be one `evaluator` task (with task id 0).  Given task id 1",
        ),
        (
            CLUSTER,
            {"type": "ps", "index": 0},
            "TF_CONFIG has `ps` tasks; training is synchronous, without parameter servers. "
            "Leave `ps` out of the cluster.",
        ),
    ],
)
def test_tasks_that_cannot_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: dict[str, Any], task: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))

    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        tfe.train_and_evaluate(linear(tmp_path), tfe.TrainSpec(linear_input_fn), eval_spec())


def test_a_chief_alone_in_its_cluster_only_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}))

    result = tfe.train_and_evaluate(linear(tmp_path), tfe.TrainSpec(linear_input_fn), eval_spec())

    assert result is None
    assert steps_of(tmp_path) == [1, 10]
    assert not (tmp_path / "eval").exists()


def test_a_master_evaluates_as_one_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"cluster": {"master": ["a:1"]}, "task": {"type": "master", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    exporter = RecordingExporter("latest")

    result = tfe.train_and_evaluate(
        linear(tmp_path, save_checkpoints_steps=4), tfe.TrainSpec(linear_input_fn, max_steps=6), eval_spec(exporter)
    )

    assert result is None
    assert [(call["step"], call["is_final"]) for call in exporter.calls] == [(4, False), (6, True)]


def test_an_evaluator_task_evaluates_what_is_there_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, info_log: pytest.LogCaptureFixture
) -> None:
    linear(tmp_path).train(endless_input_fn, max_steps=3)
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": CLUSTER, "task": {"type": "evaluator", "index": 0}}))
    exporter = RecordingExporter("latest")

    result = tfe.train_and_evaluate(
        linear(tmp_path), tfe.TrainSpec(endless_input_fn, max_steps=3), eval_spec(exporter, start_delay_secs=0)
    )

    assert result is None
    assert [(call["step"], call["is_final"]) for call in exporter.calls] == [(3, True)]
    assert "Not using Distribute Coordinator." in info_log.messages
    assert info_log.messages[-1] == "Exiting evaluation, global_step=3 >= train max_steps=3"
