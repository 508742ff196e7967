"""The handle of a job, on a real Valkey, with tasks and the coordinator played by the test."""

import threading
from pathlib import Path

import pytest

from runner.client import Client, Job, JobStatus
from runner.errors import JobCancelledError, JobFailedError, JobNotFoundError, WaitTimeoutError
from runner.jobs.state import Claim, Outcome, OutcomeKind, Progress, Reason, Saves, Section, State
from runner.jobs.store import JobStore
from tests.scene import CHIEF, WORKER0

TIME = "2026-01-01T00:00:00.000Z"


def start(store: JobStore, job: Job) -> int:
    """Begins the job's first generation, with both tasks in training; returns the epoch."""
    epoch = store.take_over()
    store.begin_generation(epoch, store.job(job.id))
    for place, step in ((CHIEF, 120), (WORKER0, 119)):
        claim = Claim(token=str(place), worker="w", host="10.0.0.7", port=2222, pid=42)
        store.claim(job.id, 1, place, claim)
        progress = Progress(section=Section.TRAIN, step=step, loss=0.25, steps_per_sec=50.0)
        store.beat(job.id, 1, place, token=str(place), progress=progress)
    return epoch


def end(store: JobStore, epoch: int, job: Job, state: State, reason: Reason, message: str) -> None:
    store.transition(epoch, store.job(job.id), state, reason, message, settled=1)


def test_a_job_is_found_by_its_id(client: Client, job: Job) -> None:
    assert client.get(job.id).status() == job.status()
    assert [other.id for other in client.list()] == [job.id]


def test_an_unknown_id_is_not_found(client: Client) -> None:
    with pytest.raises(JobNotFoundError, match="runner list"):
        client.get("nobody-aaaaaaaa")


# Status


def test_the_status_shows_the_job_and_its_tasks(job: Job, store: JobStore) -> None:
    start(store, job)

    status = job.status()

    assert (status.state, status.generation, status.workers) == (State.PENDING, 1, 1)
    assert (status.step, status.loss, status.steps_per_sec) == (120, 0.25, 50.0)
    assert [(str(task.place), task.state, task.host, task.pid, task.step) for task in status.tasks] == [
        ("chief:0", "train", "10.0.0.7", 42, 120),
        ("worker:0", "train", "10.0.0.7", 42, 119),
    ]
    assert [event.reason for event in status.events] == [Reason.SUBMITTED]


def test_the_status_shows_what_was_saved_last_and_what_is_wrong(job: Job, store: JobStore) -> None:
    epoch = start(store, job)
    before = job.status().saves
    store.transition(
        epoch, store.job(job.id), State.RUNNING, Reason.TRAINING, "training", saves=Saves(step=50, time=TIME)
    )
    earlier = job.status().saves
    progress = Progress(section=Section.UPLOAD, step=120, saves=Saves(error="the disk is full"))
    store.beat(job.id, 1, CHIEF, token=str(CHIEF), progress=progress)

    status = job.status()

    assert (before, earlier) == (Saves(), Saves(step=50, time=TIME))
    assert status.saves == Saves(step=50, time=TIME, error="the disk is full")
    assert status.tasks[0].state == "upload"


def test_a_task_that_nobody_claimed_is_waiting(job: Job, store: JobStore) -> None:
    store.begin_generation(store.take_over(), store.job(job.id))

    assert [task.state for task in job.status().tasks] == ["waiting", "waiting"]


def test_a_status_is_json_and_read_back_equal(job: Job, store: JobStore) -> None:
    start(store, job)
    status = job.status()

    assert JobStatus.model_validate_json(status.model_dump_json()) == status


def test_the_last_step_is_known_before_the_next_generation_has_one(job: Job, store: JobStore) -> None:
    epoch = start(store, job)
    store.transition(epoch, store.job(job.id), State.RECOVERING, Reason.TASK_LOST, "lost", settled=1, step=120)
    store.begin_generation(epoch, store.job(job.id))

    assert job.status().step == 120


def test_an_ended_task_says_how(job: Job, store: JobStore) -> None:
    start(store, job)
    outcome = Outcome(kind=OutcomeKind.KILLED, message="signal 9")
    store.release(job.id, 1, WORKER0, token=str(WORKER0), outcome=outcome)

    task = job.status().tasks[1]

    assert (task.state, task.message) == ("killed", "signal 9")


@pytest.mark.parametrize(
    ("state", "reason", "error"),
    [
        (State.FAILED, Reason.MAX_FAILURES, JobFailedError),
        (State.CANCELLED, Reason.CANCEL_REQUESTED, JobCancelledError),
    ],
)
def test_a_bad_end_raises_with_its_reason(
    job: Job, store: JobStore, state: State, reason: Reason, error: type[Exception]
) -> None:
    end(store, store.take_over(), job, state, reason, "out of luck")

    with pytest.raises(error, match=f"{job.id}.*{reason}.*out of luck"):
        job.wait().raise_for_status()


def test_a_job_that_goes_on_or_succeeded_raises_nothing(job: Job, store: JobStore) -> None:
    job.status().raise_for_status()
    end(store, store.take_over(), job, State.SUCCEEDED, Reason.COMPLETED, "completed")

    job.status().raise_for_status()


# Wait, logs, cancel, checkpoints


def test_wait_returns_when_the_job_has_ended(job: Job, store: JobStore) -> None:
    epoch = store.take_over()
    ending = (store, epoch, job, State.SUCCEEDED, Reason.COMPLETED, "completed")
    timer = threading.Timer(0.2, end, args=ending)
    timer.start()

    assert job.wait(timeout_secs=30).state is State.SUCCEEDED

    timer.join()


def test_wait_gives_up_in_time_and_the_job_goes_on(job: Job) -> None:
    with pytest.raises(WaitTimeoutError, match=f"{job.id} is PENDING.*goes on"):
        job.wait(timeout_secs=0.05)

    assert job.status().state is State.PENDING


def test_logs_are_those_so_far(job: Job, store: JobStore) -> None:
    assert list(job.logs()) == []
    store.append_logs(job.id, 1, CHIEF, [f"line {i}" for i in range(2500)])

    lines = list(job.logs())

    assert [line.line for line in lines] == [f"line {i}" for i in range(2500)]


def test_followed_logs_end_after_the_last_line_of_the_job(job: Job, store: JobStore) -> None:
    epoch = store.take_over()
    store.append_logs(job.id, 1, CHIEF, ["first"])
    lines = job.logs(follow=True)
    assert next(lines).line == "first"

    store.append_logs(job.id, 1, WORKER0, ["second"])
    end(store, epoch, job, State.SUCCEEDED, Reason.COMPLETED, "completed")

    assert [(str(line.place), line.line) for line in lines] == [("worker:0", "second")]


def test_cancel_asks_once_and_again(job: Job, store: JobStore) -> None:
    job.cancel()
    job.cancel()

    assert store.job(job.id).cancel


def test_a_job_that_is_gone_is_not_found_by_its_handle(job: Job, store: JobStore) -> None:
    store._redis.flushall()

    for call in (job.status, job.wait, job.logs, job.cancel, job.checkpoints):
        with pytest.raises(JobNotFoundError):
            call()


def test_checkpoints_are_those_of_model_dir(job: Job, tmp_path: Path) -> None:
    for suffix in ("index", "data-00000-of-00001"):
        (tmp_path / f"model/model.ckpt-200.{suffix}").write_text("")

    assert [info.step for info in job.checkpoints()] == [200]
