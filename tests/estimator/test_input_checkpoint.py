"""CheckpointInputPipelineHook: a training that goes on reads on where it was."""

import logging
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.checkpoint.listing import latest_checkpoint, list_checkpoints
from runner.estimator.hooks.input_checkpoint import CheckpointInputPipelineHook
from tests.estimator.data import steps_of


class Reading:
    """An estimator that notes what it reads."""

    def __init__(self, model_dir: Path, **config: Any) -> None:
        self.read: list[int] = []
        self.estimator = tfe.Estimator(self._model_fn, str(model_dir), tfe.RunConfig(**config))

    def train(self, input_fn: Any, *, hooks: Any = None, **options: Any) -> list[int]:
        """The batches of this training."""
        self.read.clear()
        hooks = [CheckpointInputPipelineHook(self.estimator)] if hooks is None else hooks
        self.estimator.train(input_fn, hooks=[*hooks, _Noting(self.read)], **options)
        return list(self.read)

    def _model_fn(self, features: Any, mode: str) -> tfe.EstimatorSpec:
        tf.compat.v1.add_to_collection("read", features)
        weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.zeros_initializer())
        loss = tf.square(weight - tf.cast(features, tf.float32))
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.001)
        return tfe.EstimatorSpec(
            mode, loss=loss, train_op=optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
        )


class _Noting(tf.compat.v1.train.SessionRunHook):
    def __init__(self, read: list[int]) -> None:
        self._read = read

    def before_run(self, run_context: Any) -> Any:
        return tf.compat.v1.train.SessionRunArgs(tf.compat.v1.get_collection("read")[0])

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._read.append(int(run_values.results))


class Failing(tf.compat.v1.train.SessionRunHook):
    """Ends a training as a crash would, after that many steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._left -= 1
        if not self._left:
            raise RuntimeError("crash")


def count() -> tf.data.Dataset:
    return tf.data.Dataset.range(10)


def shuffled() -> tf.data.Dataset:
    return tf.data.Dataset.range(10).shuffle(10, seed=3).repeat(2).prefetch(2)


def input_files(model_dir: Path) -> list[str]:
    return sorted(path.name for path in model_dir.glob("*input*"))


def test_a_training_that_goes_on_reads_on_where_it_was(tmp_path: Path) -> None:
    reading = Reading(tmp_path)

    assert reading.train(count, steps=3) == [0, 1, 2]
    assert reading.train(count, steps=3) == [3, 4, 5]
    assert reading.train(count) == [6, 7, 8, 9]


def test_steps_that_pass_no_hook_are_saved_by_the_schedule(tmp_path: Path) -> None:
    estimator = Reading(tmp_path, save_checkpoints_steps=100).estimator

    estimator.train(lambda: count().repeat(), hooks=[CheckpointInputPipelineHook(estimator)], steps=250)

    assert sorted(tmp_path.glob("input.ckpt-*.index")) == [
        tmp_path / f"input.ckpt-{step}.index" for step in (1, 100, 200, 250)
    ]
    assert steps_of(tmp_path) == [1, 100, 200, 250]


def test_without_it_the_input_begins_again(tmp_path: Path) -> None:
    reading = Reading(tmp_path)
    reading.train(count, steps=3)

    assert reading.train(count, hooks=[], steps=3) == [0, 1, 2]


def test_the_buffer_of_a_shuffle_goes_on_too(tmp_path: Path) -> None:
    whole = Reading(tmp_path / "whole").train(shuffled)
    parts = Reading(tmp_path / "parts")

    read = parts.train(shuffled, steps=7) + parts.train(shuffled, steps=6) + parts.train(shuffled)

    assert sorted(read) == sorted(whole) == sorted([*range(10)] * 2)
    assert sorted(read[:10]) == list(range(10))


def test_after_a_crash_the_input_goes_on_from_the_step_of_the_checkpoint(tmp_path: Path) -> None:
    reading = Reading(tmp_path, save_checkpoints_steps=2)
    hooks = [CheckpointInputPipelineHook(reading.estimator), Failing(steps=5)]
    with pytest.raises(RuntimeError, match="crash"):
        reading.train(count, hooks=hooks)
    assert reading.estimator.get_variable_value("global_step") == 4

    assert reading.train(count, steps=3) == [4, 5, 6]


def test_a_step_whose_input_was_not_saved_goes_on_from_the_last_that_was(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    reading = Reading(tmp_path)
    reading.train(count, steps=3)
    reading.train(count, hooks=[], steps=1)

    assert reading.train(count, steps=2) == [3, 4]
    (record,) = [record for record in info_log.records if record.message.startswith("The input has no checkpoint")]
    assert record.message == "The input has no checkpoint of step 4; it goes on from that of step 3."
    assert record.levelno == logging.WARNING


def test_as_many_are_kept_as_of_the_model(tmp_path: Path) -> None:
    reading = Reading(tmp_path, save_checkpoints_steps=2, keep_checkpoint_max=2)
    reading.train(count, steps=5)
    reading.train(count, steps=4)

    assert [info.step for info in list_checkpoints(str(tmp_path))] == [7, 9]
    assert input_files(tmp_path) == [
        "checkpoint_input",
        *(f"input.ckpt-{step}.{suffix}" for step in (7, 9) for suffix in ("data-00000-of-00001", "index")),
    ]


def test_it_is_no_checkpoint_of_the_model(tmp_path: Path) -> None:
    Reading(tmp_path).train(count, steps=3)
    (tmp_path / "checkpoint").unlink()

    assert latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-3")


def test_each_task_of_a_cluster_has_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "TF_CONFIG",
        '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
    )

    assert CheckpointInputPipelineHook(Reading(tmp_path).estimator)._basename == f"{tmp_path}/input_worker_0.ckpt"


def test_an_input_of_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs an input_fn that returns a tf\.data\.Dataset"):
        Reading(tmp_path).train(lambda: tf.constant(1))


def test_a_state_that_is_not_its_own_is_refused_or_ignored(tmp_path: Path) -> None:
    def random() -> tf.data.Dataset:
        return count().map(lambda value: value + tf.random.uniform([], maxval=2, dtype=tf.int64))

    reading = Reading(tmp_path)
    with pytest.raises(tf.errors.FailedPreconditionError, match="stateful"):
        reading.train(random, steps=3)

    hooks = [CheckpointInputPipelineHook(reading.estimator, external_state_policy="ignore")]
    assert len(reading.train(random, hooks=hooks, steps=3)) == 3


def test_a_policy_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Supported values include 'warn'"):
        CheckpointInputPipelineHook(Reading(tmp_path).estimator, external_state_policy="maybe")
