"""The whole path, with nothing played: client, coordinator, Celery, chief and worker processes, one model_dir."""

import os
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from runner import Client, Job, LocalStack
from runner.errors import JobFailedError, ModelDirInUseError
from runner.jobs.state import Reason, State
from tests.waiting import wait_until

TIMEOUT_SECS = 240

EXPERIMENT = """
from runner import estimator as tfe
from runner.quickstart.iris import experiment as iris

NAME = "first version"

def experiment(config, params):
    print("the code is the", NAME)
    config = config.replace(save_checkpoints_steps=params.get("save_steps", 100))
    return iris(config, params)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of a stack with two slots, which leaves no process behind."""
    before = children()
    with LocalStack(slots=2) as client:
        yield client
    wait_until(lambda: not (children() - before), lambda: str(children() - before))


@pytest.fixture
def code_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "code"
    directory.mkdir()
    (directory / "mine.py").write_text(textwrap.dedent(EXPERIMENT))
    return directory


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def describe(job: Job) -> str:
    logs = "\n".join(f"{line.generation} {line.place} {line.line}" for line in list(job.logs())[-60:])
    return f"{job.status().model_dump_json(indent=1)}\n{logs}"


def submit(client: Client, code_dir: Path, model_dir: Path, **params: int) -> Job:
    return client.submit("mine:experiment", params=dict(params), model_dir=model_dir, workers=1, code_dir=code_dir)


def kill_task(job: Job, name: str, *, generation: int, step: int) -> None:
    """SIGKILLs a training process of that generation once the chief has gone past that step."""

    def running() -> bool:
        status = job.status()
        assert not status.state.is_terminal, describe(job)
        return status.state is State.RUNNING and status.generation == generation and (status.step or 0) > step

    wait_until(running, lambda: describe(job), timeout_secs=TIMEOUT_SECS)
    (task,) = [task for task in job.status().tasks if str(task.place) == name]
    assert task.pid is not None
    os.kill(task.pid, signal.SIGKILL)


def test_a_job_trains_evaluates_and_runs_the_code_it_was_submitted_with(
    client: Client, code_dir: Path, tmp_path: Path
) -> None:
    job = submit(client, code_dir, tmp_path / "model", max_steps=200)
    (code_dir / "mine.py").write_text("raise RuntimeError('changed after the submission')\n")

    status = job.wait(timeout_secs=TIMEOUT_SECS)

    assert (status.state, status.step, status.generation) == (State.SUCCEEDED, 200, 1), describe(job)
    assert [event.state for event in status.events] == [
        *[event.state for event in status.events if event.state is State.PENDING],
        State.STARTING,
        State.RUNNING,
        State.SUCCEEDED,
    ]
    assert status.metrics is not None
    assert status.metrics["accuracy"] >= 0.9
    assert [checkpoint.step for checkpoint in job.checkpoints()] == [0, 100, 200]
    assert job.checkpoints()[-1].latest
    lines = list(job.logs())
    for name in ("chief:0", "worker:0"):
        assert any(str(line.place) == name and line.line == "the code is the first version" for line in lines)
    assert sum("Saving checkpoints for" in line.line for line in lines) == 3
    assert [task.state for task in status.tasks] == ["completed", "completed"]


def test_a_killed_worker_and_then_a_killed_chief_do_not_stop_the_job(
    client: Client, code_dir: Path, tmp_path: Path
) -> None:
    before = children()
    job = submit(client, code_dir, tmp_path / "model", max_steps=6000)

    kill_task(job, "worker:0", generation=1, step=150)
    kill_task(job, "chief:0", generation=2, step=150)
    status = job.wait(timeout_secs=TIMEOUT_SECS)

    assert (status.state, status.step) == (State.SUCCEEDED, 6000), describe(job)
    assert (status.generation, status.failures) == (3, 2)
    recoveries = [event for event in status.events if event.state is State.RECOVERING]
    causes = [event for event in recoveries if event.reason in (Reason.TASK_FAILED, Reason.TASK_LOST)]
    assert [event.generation for event in causes] == [1, 2], describe(job)
    assert "worker:0" in causes[0].message
    assert "chief:0" in causes[1].message
    assert [event.state for event in status.events][-1] is State.SUCCEEDED
    restored = [line for line in job.logs() if "Restoring parameters from" in line.line and line.place.index == 0]
    assert {line.generation for line in restored} == {1, 2, 3}
    assert job.checkpoints()[-1].step == 6000
    wait_until(lambda: not (children() - before), lambda: str(children() - before))


def test_a_cancelled_job_ends_its_tasks_and_frees_its_model_dir(client: Client, code_dir: Path, tmp_path: Path) -> None:
    before = children()
    job = submit(client, code_dir, tmp_path / "model", max_steps=10_000_000)
    wait_until(lambda: job.status().state is State.RUNNING, lambda: describe(job), timeout_secs=TIMEOUT_SECS)
    with pytest.raises(ModelDirInUseError, match=job.id):
        submit(client, code_dir, tmp_path / "model", max_steps=1)

    job.cancel()
    status = job.wait(timeout_secs=TIMEOUT_SECS)

    assert status.state is State.CANCELLED, describe(job)
    wait_until(lambda: not (children() - before), lambda: str(children() - before))
    again = submit(client, code_dir, tmp_path / "model", max_steps=1)
    assert again.wait(timeout_secs=TIMEOUT_SECS).state is State.SUCCEEDED, describe(again)


def test_a_model_that_does_not_fit_fails_the_job_at_once_and_changes_nothing(
    client: Client, code_dir: Path, tmp_path: Path
) -> None:
    submit(client, code_dir, tmp_path / "model", max_steps=5).wait(timeout_secs=TIMEOUT_SECS).raise_for_status()
    job = client.submit(
        "mine:experiment",
        params={"hidden_units": [20, 20], "max_steps": 10},
        model_dir=tmp_path / "model",
        workers=1,
        code_dir=code_dir,
    )

    status = job.wait(timeout_secs=TIMEOUT_SECS)

    # The first generation of the model_dir was the other job's.
    assert (status.state, status.reason, status.generation) == (State.FAILED, Reason.CONFIG_ERROR, 2), describe(job)
    assert "shape in shape_and_slice spec [20] does not match the shape stored in checkpoint: [10]" in status.message
    assert job.checkpoints()[-1].step == 5
    with pytest.raises(JobFailedError, match="dnn/hiddenlayer_0/bias"):
        status.raise_for_status()
