"""make_stop_at_checkpoint_step_hook, on a chief and on a worker."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator.hooks.stop_at_checkpoint_step import _StopAtCheckpointStepHook
from tests.estimator.data import linear_input_fn, linear_model_fn, steps_of

WORKER = {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}


def linear(model_dir: Path) -> tfe.Estimator:
    return tfe.Estimator(linear_model_fn, str(model_dir), tfe.RunConfig(), params={})


def stops(hook: Any, step: int) -> bool:
    """Whether the hook asks for the end after a run that reached the step."""
    context = tf.compat.v1.train.SessionRunContext(original_args=None, session=None)
    hook.after_run(context, SimpleNamespace(results=step))
    return bool(context.stop_requested)


def test_a_chief_stops_at_the_step(tmp_path: Path) -> None:
    estimator = linear(tmp_path)

    estimator.train(linear_input_fn, hooks=[tfe.experimental.make_stop_at_checkpoint_step_hook(estimator, 4)])

    assert steps_of(tmp_path) == [1, 4]


def test_a_worker_stops_once_the_step_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linear(tmp_path).train(linear_input_fn, steps=3)
    monkeypatch.setenv("TF_CONFIG", json.dumps(WORKER))
    hook = tfe.experimental.make_stop_at_checkpoint_step_hook(linear(tmp_path), 4, wait_after_file_check_secs=0)

    assert not stops(hook, 4)
    monkeypatch.delenv("TF_CONFIG")
    linear(tmp_path).train(linear_input_fn, steps=1)
    assert not stops(hook, 3)
    assert stops(hook, 4)


def test_a_worker_does_not_look_again_before_its_time(tmp_path: Path) -> None:
    now = [0.0]
    hook = _StopAtCheckpointStepHook(str(tmp_path), 2, wait_secs=30, clock=lambda: now[0])

    assert not stops(hook, 2)
    linear(tmp_path).train(linear_input_fn, steps=2)
    now[0] = 29.0
    assert not stops(hook, 2)
    now[0] = 30.0
    assert stops(hook, 2)


def test_a_worker_that_cannot_read_the_model_dir_looks_again(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    hook = _StopAtCheckpointStepHook(str(tmp_path), 2, wait_secs=0)

    assert not stops(hook, 2)
    (tmp_path / "checkpoint").rmdir()
    linear(tmp_path).train(linear_input_fn, steps=2)
    assert stops(hook, 2)


def test_there_must_be_a_last_step(tmp_path: Path) -> None:
    last_step: Any = None

    with pytest.raises(ValueError, match=r"^last_step must be specified\.$"):
        tfe.experimental.make_stop_at_checkpoint_step_hook(linear(tmp_path), last_step)
