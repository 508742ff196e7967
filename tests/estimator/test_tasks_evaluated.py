"""train_and_evaluate, and hooks that end a training, over tasks that are real processes."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runner.checkpoint.listing import list_checkpoints
from tests.estimator.data import steps_of
from tests.estimator.events import scalars
from tests.estimator.tasks import Task, outputs, start, start_cluster


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Owns the processes of a test: none outlives it."""
    with ExitStack() as stack:
        yield stack


def exports(task: Task) -> list[dict[str, Any]]:
    lines = [line for line in task.output.splitlines() if line.startswith("EXPORTED ")]
    return [json.loads(line.removeprefix("EXPORTED ")) for line in lines]


def words_after(task: Task, start: str) -> list[str]:
    """The last word of each line that starts so."""
    return [line.split()[-1] for line in task.output.splitlines() if line.startswith(start)]


def test_an_evaluator_follows_a_chief_and_a_worker_to_the_last_step(stack: ExitStack, tmp_path: Path) -> None:
    model_dir = tmp_path / "model"
    tasks = start_cluster(stack, "evaluated", model_dir, "chief:0", "worker:0", "evaluator:0", logs=tmp_path)

    assert [task.wait() for task in tasks.values()] == [0, 0, 0], outputs(tasks)
    assert steps_of(model_dir) == [0, 10, 20, 30]
    # It may come in time for step 0, which the others start from.
    assert [step for step in scalars(model_dir / "eval", "accuracy") if step] == [10, 20, 30]
    evaluator = tasks["evaluator:0"]
    assert [(call["step"], call["is_final"]) for call in exports(evaluator) if call["step"]] == [
        (10, False),
        (20, False),
        (30, True),
    ]
    assert "Exiting evaluation, global_step=30 >= train max_steps=30" in evaluator.output
    for name in ("chief:0", "worker:0"):
        assert "Starting evaluation" not in tasks[name].output
        assert exports(tasks[name]) == []


def test_tasks_share_a_model_dir_in_a_store(stack: ExitStack, tmp_path: Path, s3_url: str) -> None:
    tasks = start_cluster(stack, "evaluated", s3_url, "chief:0", "worker:0", "evaluator:0", logs=tmp_path)

    assert [task.wait() for task in tasks.values()] == [0, 0, 0], outputs(tasks)
    assert [info.step for info in list_checkpoints(s3_url)] == [0, 10, 20, 30]
    assert f"Restoring parameters from {s3_url}/model.ckpt-0" in tasks["worker:0"].output
    assert [call["step"] for call in exports(tasks["evaluator:0"]) if call["step"]] == [10, 20, 30]


def test_a_master_evaluates_amid_a_training_with_a_worker(stack: ExitStack, tmp_path: Path) -> None:
    model_dir = tmp_path / "model"
    tasks = start_cluster(stack, "mastered", model_dir, "master:0", "worker:0", logs=tmp_path)

    assert [task.wait() for task in tasks.values()] == [0, 0], outputs(tasks)
    assert steps_of(model_dir) == [0, 2, 4, 5]
    assert list(scalars(model_dir / "eval", "accuracy")) == [2, 4, 5]
    assert [call["is_final"] for call in exports(tasks["master:0"])] == [False, False, True]
    assert "Starting evaluation" not in tasks["worker:0"].output


def test_hooks_that_end_a_training_end_all_tasks_at_one_step(stack: ExitStack, tmp_path: Path) -> None:
    model_dir = tmp_path / "model"
    tasks = start(stack, "stop_by_hooks", model_dir, workers=1, logs=tmp_path)

    assert [task.wait() for task in tasks.values()] == [0, 0], outputs(tasks)
    for task in tasks.values():
        assert words_after(task, "END ") == ["5", "4", "2", "4"]
        assert "Leaving out GlobalStepWaiterHook" in task.output
    assert [steps_of(model_dir / name) for name in "ab"] == [[0, 5], [0, 4]]
    assert "Requesting early stopping at global step 5" in tasks["chief:0"].output
    assert "Requesting early stopping" not in tasks["worker:0"].output
    # The chief has the even batches, the worker the odd ones; the second training reads on.
    assert words_after(tasks["chief:0"], "READ input") == ["0", "2", "4", "6"]
    assert words_after(tasks["worker:0"], "READ input") == ["1", "3", "5", "7"]
    assert (model_dir / "c" / "input_chief_0.ckpt-4.index").exists()
    assert (model_dir / "c" / "input_worker_0.ckpt-4.index").exists()
