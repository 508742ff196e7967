"""What train() leaves in model_dir, logs, and does at its ends."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.checkpoint.saving import Saves
from runner.estimator.events import EventFile
from runner.estimator.hooks.checkpoint_hook import CheckpointHook, FirstSave
from runner.estimator.schedule import Schedule
from tests.estimator.data import classifier, iris, linear_input_fn, linear_model_fn, steps_of, train_input_fn


def without_times(lines: list[str]) -> list[str]:
    """The lines of a `checkpoint` file but for when each checkpoint was published."""
    return [line for line in lines if "timestamp" not in line]


def test_a_fresh_run_of_200_steps_leaves_exactly_the_files_of_the_specification(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    model_dir = tmp_path / "iris"
    estimator = classifier(model_dir)
    assert not model_dir.exists()

    assert estimator.train(train_input_fn, steps=200) is estimator

    names = sorted(path.name for path in model_dir.iterdir())
    events = [name for name in names if name.startswith("events.out.tfevents.")]
    checkpoints = [
        f"model.ckpt-{step}.{part}" for step in (1, 200) for part in ("data-00000-of-00001", "index", "meta")
    ]
    assert len(events) == 1
    assert names == sorted([".runner", "checkpoint", "graph.pbtxt", *events, *checkpoints])
    comment, *lines = (model_dir / "checkpoint").read_text().splitlines()
    assert re.fullmatch(r"# runner: generation 1 local-\S+ \w+", comment)
    assert without_times(lines) == [
        'model_checkpoint_path: "model.ckpt-200"',
        'all_model_checkpoint_paths: "model.ckpt-1"',
        'all_model_checkpoint_paths: "model.ckpt-200"',
    ]
    infos = [record.getMessage() for record in info_log.records if record.levelno == logging.INFO]
    messages = [re.sub(r"\d+\.\d+(e-\d+)?", "X", message) for message in infos if "config" not in message]
    assert messages == [
        "Calling model_fn.",
        "Done calling model_fn.",
        "Create CheckpointSaverHook.",
        "Graph was finalized.",
        "Running local_init_op.",
        "Done running local_init_op.",
        f"Saving checkpoints for 1 into {model_dir}/model.ckpt.",
        "loss = X, step = 1",
        *[message for message in messages if message.startswith("global_step/sec: ")],
        "loss = X, step = 101 (X sec)",
        f"Saving checkpoints for 200 into {model_dir}/model.ckpt.",
        "Loss for final step: X.",
    ]
    assert estimator.latest_checkpoint() == f"{model_dir}/model.ckpt-200"


def test_events_hold_graph_summaries_at_1_and_101_and_session_logs(tmp_path: Path) -> None:
    classifier(tmp_path).train(train_input_fn, steps=200)

    (path,) = tmp_path.glob("events.*")
    events = list(tf.compat.v1.train.summary_iterator(str(path)))
    kinds = [event.WhichOneof("what") for event in events]
    tags = {step: {v.tag for e in events for v in e.summary.value if e.step == step} for step in (1, 101)}
    layers = ("dnn/hiddenlayer_0", "dnn/hiddenlayer_1", "dnn/logits")
    expected = {f"{layer}/{tag}" for layer in layers for tag in ("activation", "fraction_of_zero_values")} | {"loss"}
    session_logs = [(e.step, e.session_log.status) for e in events if e.WhichOneof("what") == "session_log"]
    assert kinds[:3] == ["file_version", "graph_def", "meta_graph_def"]
    assert tags == {1: expected, 101: expected | {"global_step/sec"}}
    start, checkpoint = tf.compat.v1.SessionLog.START, tf.compat.v1.SessionLog.CHECKPOINT
    assert sorted(session_logs) == [(1, start), (1, checkpoint), (200, checkpoint)]


def test_a_second_run_resumes_from_the_latest_checkpoint(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    classifier(tmp_path).train(train_input_fn, steps=200)
    info_log.clear()

    classifier(tmp_path).train(train_input_fn, steps=200)

    assert f"Restoring parameters from {tmp_path}/model.ckpt-200" in info_log.messages
    assert steps_of(tmp_path) == [1, 200, 201, 400]
    assert next(message for message in info_log.messages if message.startswith("loss = ")).endswith("step = 201")
    assert len(list(tmp_path.glob("events.*"))) == 2


def test_resuming_for_one_step_saves_it_once(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    classifier(tmp_path).train(train_input_fn, steps=1)
    classifier(tmp_path).train(train_input_fn, steps=1)

    saved = [message for message in info_log.messages if message.startswith("Saving checkpoints")]
    assert [message.split()[3] for message in saved] == ["1", "2"]


def test_max_steps_that_are_reached_skip_the_training(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    classifier(tmp_path).train(train_input_fn, max_steps=10)
    info_log.clear()

    classifier(tmp_path).train(train_input_fn, max_steps=10)

    assert info_log.messages[-1] == "Skipping training since max_steps has already saved."
    assert steps_of(tmp_path) == [1, 10]


def test_the_newest_checkpoints_are_kept_and_a_later_run_counts_those_of_an_earlier_one(tmp_path: Path) -> None:
    config: dict[str, Any] = {"save_checkpoints_steps": 20, "keep_checkpoint_max": 2}

    classifier(tmp_path, **config).train(train_input_fn, max_steps=90)
    first = steps_of(tmp_path)
    classifier(tmp_path, **config).train(train_input_fn, max_steps=140)

    assert first == [80, 90]
    assert steps_of(tmp_path) == [130, 140]


def test_five_checkpoints_are_kept_by_default(tmp_path: Path) -> None:
    classifier(tmp_path, save_checkpoints_steps=10).train(train_input_fn, steps=100)

    assert steps_of(tmp_path) == [60, 70, 80, 90, 100]


@pytest.mark.parametrize(
    ("retention", "listed"),
    [
        ({"keep_checkpoint_max": 2, "keep_checkpoint_every_n_hours": 1e-9}, [50, 60]),
        ({"keep_checkpoint_max": 0}, [60]),
        ({"keep_checkpoint_max": None}, [60]),
    ],
)
def test_checkpoints_that_are_kept_for_good_are_no_longer_listed(
    tmp_path: Path, retention: dict[str, Any], listed: list[int]
) -> None:
    estimator = tfe.Estimator(
        linear_model_fn, str(tmp_path), tfe.RunConfig(save_checkpoints_steps=10, **retention), params={}
    )

    estimator.train(lambda: linear_input_fn().repeat(), max_steps=60)

    assert steps_of(tmp_path) == [1, 10, 20, 30, 40, 50, 60]
    lines = (tmp_path / "checkpoint").read_text().splitlines()
    assert without_times([line for line in lines if not line.startswith("# runner: ")]) == [
        'model_checkpoint_path: "model.ckpt-60"',
        *[f'all_model_checkpoint_paths: "model.ckpt-{step}"' for step in listed],
    ]


def test_without_a_schedule_there_are_only_events(tmp_path: Path) -> None:
    classifier(tmp_path, save_checkpoints_secs=None).train(train_input_fn, steps=5)

    assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == ["events"]


def test_without_graph_def_there_is_neither_meta_nor_graph(tmp_path: Path) -> None:
    classifier(tmp_path, checkpoint_save_graph_def=False).train(train_input_fn, steps=3)

    assert not list(tmp_path.glob("*.meta"))
    assert not (tmp_path / "graph.pbtxt").exists()


def test_the_end_of_the_input_ends_the_training_with_a_checkpoint(tmp_path: Path) -> None:
    classifier(tmp_path).train(lambda: iris().batch(50))

    assert steps_of(tmp_path) == [1, 3]


def test_a_custom_model_fn_trains_as_worked_out_by_hand(tmp_path: Path) -> None:
    estimator = tfe.Estimator(linear_model_fn, str(tmp_path), params={"scale": 1.0})

    estimator.train(linear_input_fn, steps=1)

    # The gradient of mean((w x - 2 x)^2) at w = 0 is mean(-4 x^2) = -10.
    assert tf.train.load_variable(str(tmp_path), "weight") == pytest.approx(1.0)
    assert next(estimator.predict(linear_input_fn)) == {"y": pytest.approx(1.0)}


def test_hooks_and_listeners_are_told_in_order(tmp_path: Path) -> None:
    told: list[str] = []

    class Hook(tf.compat.v1.train.SessionRunHook):
        def begin(self) -> None:
            told.append("begin")

        def after_create_session(self, session: Any, coord: Any) -> None:
            told.append("session")

        def before_run(self, run_context: Any) -> Any:
            return tf.compat.v1.train.SessionRunArgs(tf.compat.v1.train.get_global_step())

        def after_run(self, run_context: Any, run_values: Any) -> None:
            assert isinstance(run_values.results, np.int64)
            told.append("run")

        def end(self, session: Any) -> None:
            told.append("end")

    class Listener(tf.compat.v1.train.CheckpointSaverListener):
        def before_save(self, session: Any, global_step_value: int) -> None:
            told.append(f"before {global_step_value}")

        def after_save(self, session: Any, global_step_value: int) -> bool:
            told.append(f"after {global_step_value}")
            return global_step_value == 2

    config = tfe.RunConfig(save_checkpoints_steps=2)
    estimator = tfe.Estimator(linear_model_fn, str(tmp_path), config=config, params={})
    estimator.train(linear_input_fn, hooks=[Hook()], saving_listeners=[Listener()])

    assert told == ["begin", "session", "before 1", "after 1", "run", "before 2", "after 2", "run", "end"]


def test_a_checkpoint_hook_of_the_user_takes_the_place_of_ours_and_tells_the_listeners(tmp_path: Path) -> None:
    saved: list[int] = []

    class Listener(tf.compat.v1.train.CheckpointSaverListener):
        def after_save(self, session: Any, global_step_value: int) -> None:
            saved.append(global_step_value)

    hook = tf.compat.v1.train.CheckpointSaverHook(str(tmp_path), save_steps=5)
    estimator = tfe.Estimator(linear_model_fn, str(tmp_path), params={})
    for _ in range(2):
        estimator.train(linear_input_fn, hooks=[hook], saving_listeners=[Listener()])

    assert [int(step) for step in saved] == [0, 5, 10, 10, 15, 20]  # as that hook does: at the start, too
    assert steps_of(tmp_path)[-1] == 20


def test_a_schedule_of_seconds_counts_from_the_end_of_a_save(tmp_path: Path) -> None:
    now, saved = [0.0], []

    class Slow(tf.compat.v1.train.CheckpointSaverListener):
        def after_save(self, session: Any, global_step_value: int) -> None:
            saved.append(global_step_value)
            now[0] += 100.0

    with tf.Graph().as_default(), tf.compat.v1.Session() as session, EventFile(str(tmp_path)) as events:
        step = tf.compat.v1.train.create_global_step()
        saves = Saves(str(tmp_path), tf.compat.v1.train.Saver())
        saves.claim()
        hook = CheckpointHook(
            step,
            saves=saves,
            schedule=Schedule(every_secs=10, clock=lambda: now[0]),
            first=FirstSave.ITERATION,
            listeners=[Slow()],
            events=events,
            graph_path=None,
        )
        session.run(step.initializer)
        context = tf.compat.v1.train.SessionRunContext(original_args=None, session=session)
        hook.after_create_session(session, None)
        for reached in range(1, 9):
            now[0] += 4.0
            hook.after_step(context, reached)

    assert saved == [1, 4, 7]


def train_with(train_op: Callable[[Any], Any], model_dir: Path) -> None:
    """Trains for 70 runs, and shows the step rate every 30 steps."""

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.zeros_initializer())
        loss = tf.reduce_mean(tf.square(weight * features["x"] - labels))
        return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op(loss))

    config = tfe.RunConfig(log_step_count_steps=30)
    tfe.Estimator(model_fn, str(model_dir), config).train(lambda: linear_input_fn().repeat(7))


def test_a_global_step_that_is_never_increased_is_worth_a_warning(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    train_with(lambda loss: tf.compat.v1.train.GradientDescentOptimizer(0.01).minimize(loss), tmp_path)

    warnings = [record.getMessage() for record in info_log.records if record.levelno == logging.WARNING]
    text = (
        "It seems that global step (tf.train.get_global_step) has not been increased. Current value (could be stable): "
        "0 vs previous value: 0. You could increase the global step by passing tf.train.get_global_step() to "
        "Optimizer.apply_gradients or Optimizer.minimize."
    )
    assert warnings == [text, text]


def test_a_global_step_that_is_increased_now_and_then_is_worth_none(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    def accumulate(loss: Any) -> Any:
        runs = tf.compat.v1.get_variable("runs", [], tf.int64, initializer=tf.compat.v1.zeros_initializer())
        step = tf.compat.v1.train.get_global_step()
        return step.assign(tf.compat.v1.assign_add(runs, 1) // 25)

    train_with(accumulate, tmp_path)

    assert tf.train.load_variable(str(tmp_path), "global_step") == 2
    assert not [record for record in info_log.records if record.levelno == logging.WARNING]


def test_a_checkpoint_whose_name_has_no_step_is_restored_all_the_same(tmp_path: Path) -> None:
    estimator = tfe.Estimator(linear_model_fn, str(tmp_path), params={})
    estimator.train(linear_input_fn, steps=1)
    for path in tmp_path.glob("model.ckpt-1.*"):
        path.rename(tmp_path / path.name.replace("model.ckpt-1", "best"))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "best"\n')

    estimator.train(linear_input_fn, max_steps=1)
    assert steps_of(tmp_path) == []

    estimator.train(linear_input_fn, steps=1)
    assert steps_of(tmp_path) == [2]


def test_an_error_in_a_step_reaches_the_caller_and_saves_nothing_more(tmp_path: Path) -> None:
    class Failing(tf.compat.v1.train.SessionRunHook):
        runs = 0

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.runs += 1
            if self.runs == 2:
                raise RuntimeError("by the hook")

    with pytest.raises(RuntimeError, match="by the hook"):
        tfe.Estimator(linear_model_fn, str(tmp_path), params={}).train(linear_input_fn, hooks=[Failing()])

    assert steps_of(tmp_path) == [1]


def test_a_loss_that_is_not_a_number_is_an_error(tmp_path: Path) -> None:
    estimator = tfe.Estimator(linear_model_fn, str(tmp_path), params={"scale": float("nan")})

    with pytest.raises(tf.compat.v1.train.NanLossDuringTrainingError, match="NaN loss during training"):
        estimator.train(linear_input_fn)

    assert steps_of(tmp_path) == []
