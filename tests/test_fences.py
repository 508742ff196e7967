"""Generations above the fence of their model_dir, and stores that are slow, gone or hang while others train."""

import itertools
from collections.abc import Iterator

import pytest

from runner.jobs.state import Reason, State
from runner.settings import Settings
from tests.scene import CHIEF, KILLED, STOPPED, WORKER0, Scene
from tests.waiting import wait_until


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    scene = Scene(settings)
    yield scene
    scene.store.close()


def begins(scene: Scene, job_id: str) -> None:
    """Waits until a generation begins, which a thread's answer makes it do."""

    def is_starting() -> bool:
        scene.advance(1)
        return scene.job(job_id).state is State.STARTING

    wait_until(is_starting, lambda: scene.job(job_id).message)


def test_a_generation_is_above_every_writer_before_it(scene: Scene) -> None:
    scene.fences["/models/iris"] = 6  # by jobs of another Redis, or by train() without a job

    job_id = scene.run_to_training()
    assert scene.job(job_id).generation == 7
    scene.fences["/models/iris"] = 7
    scene.release(job_id, CHIEF, KILLED)
    scene.release(job_id, WORKER0, STOPPED)
    scene.reconcile()
    scene.fences["/models/iris"] = 9
    scene.reconcile()

    assert scene.job(job_id).generation == 10


def test_a_job_whose_model_dir_was_emptied_goes_on_counting(scene: Scene) -> None:
    scene.fences["/models/iris"] = 6
    job_id = scene.run_to_training()
    scene.fences.clear()
    scene.release(job_id, CHIEF, KILLED)
    scene.release(job_id, WORKER0, STOPPED)

    scene.reconcile()
    scene.reconcile()

    assert scene.job(job_id).generation == 8


def test_a_job_whose_fence_cannot_be_read_waits_and_says_why(scene: Scene) -> None:
    scene.add_worker("a", 2)
    scene.outage = "no answer from http://s3.internal"
    job_id = scene.submit()

    scene.reconcile()
    scene.reconcile()

    job = scene.job(job_id)
    assert (job.state, job.reason, job.generation) == (State.PENDING, Reason.WAITING_FOR_MODEL_DIR, 0)
    assert job.message == "the fence in /models/iris cannot be read: no answer from http://s3.internal"


def test_a_job_begins_once_its_model_dir_is_back(scene: Scene) -> None:
    scene.add_worker("a", 2)
    scene.outage = "no answer"
    job_id = scene.submit()
    scene.advance(2)
    scene.outage = ""

    for _ in range(10):
        scene.advance(1)
        wait_until(lambda: scene.asked == scene.answered)

    assert scene.job(job_id).state is State.STARTING


def test_a_model_dir_that_stays_away_is_asked_less_and_less(scene: Scene) -> None:
    scene.add_worker("a", 2)
    scene.outage = "no answer"
    scene.submit()
    asked = []
    for second in range(60):
        before = scene.asked
        scene.advance(1)
        wait_until(lambda: scene.asked == scene.answered)
        asked += [second] * (scene.asked - before)

    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= 5
    assert len(asked) < 6


def test_a_job_that_lost_its_model_dir_between_two_generations_is_recovering(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.outage = "no answer"
    scene.release(job_id, CHIEF, KILLED)
    scene.release(job_id, WORKER0, STOPPED)

    scene.advance(3)

    job = scene.job(job_id)
    assert (job.state, job.reason, job.generation) == (State.RECOVERING, Reason.WAITING_FOR_MODEL_DIR, 1)


def test_a_job_that_waits_for_its_model_dir_can_be_cancelled(scene: Scene) -> None:
    scene.add_worker("a", 2)
    scene.outage = "no answer"
    job_id = scene.submit()
    scene.advance(2)
    scene.store.request_cancel(job_id)

    scene.reconcile()

    assert scene.job(job_id).state is State.CANCELLED


def test_a_store_that_hangs_disturbs_no_other_job(settings: Settings) -> None:
    scene = Scene(settings, patience_secs=0.2)
    try:
        scene.add_worker("a", 4)
        slow = [scene.submit(f"slow{number}", disk="/slow", workers=0) for number in range(3)]
        fast = scene.submit("fast")

        scene.advance(6)
        begins(scene, fast)
        scene.claim(fast, CHIEF, WORKER0)
        scene.advance(31)

        assert {scene.job(job_id).reason for job_id in slow} == {Reason.WAITING_FOR_MODEL_DIR}
        assert scene.job(slow[0]).message == "/slow/slow0 has not answered for 5 s; waiting for it"
        assert all(task.is_open for task in scene.store.tasks(scene.job(fast)).values()), "its leases were watched"
        scene.silent.add(str(WORKER0))
        scene.advance(15)
        assert scene.job(fast).closing, "and still are"
    finally:
        scene.disk_answers.set()
    begins(scene, slow[0])
    scene.store.close()
