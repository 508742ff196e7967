"""Synchronous training over tasks, each a real process."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.estimator.data import N_EXAMPLES, iris, steps_of
from tests.estimator.events import saves
from tests.estimator.tasks import outputs, start
from tests.waiting import wait_until


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Owns the processes of a test: none outlives it."""
    with ExitStack() as stack:
        yield stack


def test_a_chief_and_a_worker_follow_the_curve_of_one_process(stack: ExitStack, tmp_path: Path) -> None:
    pair = start(stack, "curve", tmp_path / "pair", workers=1, logs=tmp_path, all=50)
    assert [task.wait() for task in pair.values()] == [0, 0], outputs(pair)
    (tmp_path / "one").mkdir()
    for path in (tmp_path / "pair").glob("model.ckpt-0.*"):
        shutil.copy(path, tmp_path / "one")  # the same initial weights

    one = start(stack, "curve", tmp_path / "one", workers=0, logs=tmp_path, all=100)["chief:0"]
    assert one.wait() == 0, one.output

    ours, reference = pair["chief:0"].losses, one.losses
    assert list(ours) == list(reference) == list(range(1, 101))
    np.testing.assert_allclose(list(ours.values()), list(reference.values()), rtol=1e-4)
    assert pair["worker:0"].losses == ours
    for task in pair.values():
        first, last = (int(word) for word in task.output.split("THREADS")[1].split()[:2])
        assert last < first + 50  # a thread for each step would add a hundred


def test_the_chief_alone_writes_and_starts_with_step_0(stack: ExitStack, tmp_path: Path) -> None:
    tasks = start(stack, "once", tmp_path / "model", workers=1, logs=tmp_path, all=50)

    assert [task.wait() for task in tasks.values()] == [0, 0], outputs(tasks)
    # 150 examples in batches of 50 are three batches: both have one in step 1, and only the chief has one for step 2.
    assert steps_of(tmp_path / "model") == [0, 1]
    assert len(list((tmp_path / "model").glob("events.*"))) == 1
    assert "Saving checkpoints" not in tasks["worker:0"].output
    assert "Restoring parameters from" in tasks["worker:0"].output
    assert tf.train.latest_checkpoint(str(tmp_path / "model")) == str(tmp_path / "model" / "model.ckpt-1")


def test_shards_of_one_shuffle_make_up_the_data_set(stack: ExitStack, tmp_path: Path) -> None:
    tasks = start(stack, "context", tmp_path / "model", workers=1, logs=tmp_path)

    assert [task.wait() for task in tasks.values()] == [0, 0], outputs(tasks)
    examples = []
    for index, task in enumerate(tasks.values()):
        assert f"CONTEXT 2 {index}" in task.output
        (line,) = [line for line in task.output.splitlines() if line.startswith("EXAMPLES")]
        examples += json.loads(line.removeprefix("EXAMPLES "))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        features, _ = tf.compat.v1.data.make_one_shot_iterator(iris().batch(N_EXAMPLES)).get_next()
        expected = session.run(tf.stack(list(features.values()), axis=1)).tolist()
    assert sorted(examples) == sorted(expected)
    assert examples != expected


@pytest.mark.parametrize("victim", ["worker:0", "chief:0"])
def test_a_killed_task_fails_the_other_at_once(stack: ExitStack, tmp_path: Path, victim: str) -> None:
    tasks = start(stack, "forever", tmp_path / "model", workers=1, logs=tmp_path)
    wait_until(lambda: 101 in tasks["chief:0"].losses, lambda: outputs(tasks))

    tasks[victim].process.kill()

    (survivor,) = [task for name, task in tasks.items() if name != victim]
    assert survivor.wait() == 1
    assert "PeerLostError" in survivor.output
    latest = tf.train.latest_checkpoint(str(tmp_path / "model"))
    assert latest is not None
    assert tf.train.load_variable(latest, "global_step") % 50 == 0


def test_an_error_in_one_task_ends_the_other(stack: ExitStack, tmp_path: Path) -> None:
    tasks = start(stack, "fail_at", tmp_path / "model", workers=1, logs=tmp_path, **{"worker:0": 3, "chief:0": None})

    assert tasks["worker:0"].wait() == 1
    assert "RuntimeError: by the hook" in tasks["worker:0"].output
    assert tasks["chief:0"].wait() == 1
    assert "PeerLostError" in tasks["chief:0"].output, outputs(tasks)


def test_a_task_that_never_comes_is_not_waited_for_for_ever(stack: ExitStack, tmp_path: Path) -> None:
    tasks = start(stack, "meet", tmp_path / "model", workers=1, logs=tmp_path, **{"chief:0": 2, "worker:0": None})

    assert tasks["chief:0"].wait() == 1
    assert "the cluster was not complete after 2 s" in tasks["chief:0"].output
    assert not (tmp_path / "model").exists()


def test_a_frozen_task_is_noticed(stack: ExitStack, tmp_path: Path) -> None:
    tasks = start(stack, "forever", tmp_path / "model", workers=1, logs=tmp_path)
    wait_until(lambda: 101 in tasks["chief:0"].losses, lambda: outputs(tasks))

    tasks["worker:0"].process.send_signal(signal.SIGSTOP)

    assert tasks["chief:0"].wait() == 1
    assert "PeerLostError" in tasks["chief:0"].output
    assert "/job:worker/replica:0/task:0 does not answer" in tasks["chief:0"].output


def test_a_stop_in_one_task_ends_all_at_the_same_step(stack: ExitStack, tmp_path: Path) -> None:
    tasks = start(stack, "stop_by_listener", tmp_path / "model", workers=1, logs=tmp_path)

    assert [task.wait() for task in tasks.values()] == [0, 0], outputs(tasks)
    assert steps_of(tmp_path / "model") == [0, 2, 4]
    # Told of the first save too, in vain: as in the original, nothing is there to be stopped yet.
    words = [line.split() for line in tasks["chief:0"].output.splitlines() if line.startswith(("BEFORE", "AFTER"))]
    assert words == [[word, step] for step in "024" for word in ("BEFORE", "AFTER")]
    assert saves(tmp_path / "model") == [0, 2, 4]


def test_a_task_without_a_batch_ends_all_with_a_warning(stack: ExitStack, tmp_path: Path) -> None:
    tasks = start(stack, "once", tmp_path / "model", workers=1, logs=tmp_path, all=N_EXAMPLES)  # one batch for two

    assert [task.wait() for task in tasks.values()] == [0, 0], outputs(tasks)
    assert steps_of(tmp_path / "model") == [0]
    assert all("The training ended before its first step" in task.output for task in tasks.values())


@pytest.mark.parametrize(
    ("mode", "argument", "message"),
    [
        ("tensors", None, "cannot be dealt out to 2 tasks. Return a tf.data.Dataset"),
        ("wrong_optimizer", "sync", "SyncReplicasOptimizer waits for parameter servers"),
        ("wrong_optimizer", "cond", "apply_gradients was called inside tf.cond or a loop"),
        ("no_optimizer", None, "model_fn called no apply_gradients"),
    ],
)
def test_what_cannot_be_trained_in_lock_step_is_refused(
    stack: ExitStack, tmp_path: Path, mode: str, argument: str | None, message: str
) -> None:
    tasks = start(stack, mode, tmp_path / "model", workers=1, logs=tmp_path, all=argument)

    assert [task.wait() for task in tasks.values()] == [1, 1]
    assert all(message in task.output for task in tasks.values()), outputs(tasks)
    assert not (tmp_path / "model").exists()


def test_one_process_trains_again_with_gradients_of_another_dtype(stack: ExitStack, tmp_path: Path) -> None:
    tasks = start(stack, "twice", tmp_path / "model", workers=1, logs=tmp_path)

    assert [task.wait() for task in tasks.values()] == [0, 0], outputs(tasks)
    assert [steps_of(tmp_path / "model" / name) for name in "abc"] == [[0, 3]] * 3
    assert all(task.output.count("EAGER 2.0") == 3 for task in tasks.values())


def test_a_task_with_another_model_is_refused(stack: ExitStack, tmp_path: Path) -> None:
    extra = {"chief:0": [10, 10], "worker:0": [10, 10, 10]}
    tasks = start(stack, "units", tmp_path / "model", workers=1, logs=tmp_path, **extra)

    assert tasks["worker:0"].wait() == 1
    assert "has other variables than the chief's" in tasks["worker:0"].output
    assert tasks["chief:0"].wait() == 1
    assert "PeerLostError" in tasks["chief:0"].output


def test_three_tasks_with_two_optimizers_keep_in_step(stack: ExitStack, tmp_path: Path) -> None:
    tasks = start(stack, "two_optimizers", tmp_path / "model", workers=2, logs=tmp_path)

    assert [task.wait() for task in tasks.values()] == [0, 0, 0], outputs(tasks)
    chief = tasks["chief:0"].losses
    assert list(chief) == list(range(1, 21))
    assert chief == tasks["worker:0"].losses == tasks["worker:1"].losses
    assert chief[20] < chief[1]


def test_the_chief_alone_starts_from_another_model_and_the_workers_from_what_it_has(
    stack: ExitStack, tmp_path: Path
) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable("weight", initializer=3.0)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "previous" / "model.ckpt"))
    paths = {"chief:0": str(tmp_path / "previous"), "worker:0": "/nonexistent"}

    tasks = start(stack, "warm", tmp_path / "model", workers=1, logs=tmp_path, **paths)

    assert [task.wait() for task in tasks.values()] == [0, 0], outputs(tasks)
    assert tasks["chief:0"].losses == tasks["worker:0"].losses == {1: 9.0}
    assert tf.train.load_variable(str(tmp_path / "model"), "weight") == 3.0
