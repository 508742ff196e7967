"""The coordinator, pass by pass: admission, rendezvous, cancel."""

from collections.abc import Iterator

import pytest

from runner.jobs.state import Reason, State, WorkerInfo
from runner.settings import Settings
from tests.scene import CHIEF, COMPLETED, KILLED, STOPPED, WORKER0, WORKER1, Scene


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    scene = Scene(settings)
    yield scene
    scene.store.close()


def test_a_job_trains_from_submission_to_success(scene: Scene) -> None:
    job_id = scene.run_to_training()

    scene.release(job_id, WORKER0, COMPLETED)
    scene.reconcile()
    assert scene.job(job_id).state is State.RUNNING
    scene.release(job_id, CHIEF, COMPLETED)
    scene.reconcile()

    job = scene.job(job_id)
    assert (job.state, job.reason, job.step, job.failures) == (State.SUCCEEDED, Reason.COMPLETED, 200, 0)
    assert job.metrics == {"accuracy": 0.95}
    assert job.started_at is not None
    assert job.ended_at is not None
    assert scene.reasons(job_id) == [
        (State.PENDING, Reason.SUBMITTED),
        (State.STARTING, Reason.ADMITTED),
        (State.RUNNING, Reason.TRAINING),
        (State.SUCCEEDED, Reason.COMPLETED),
    ]


def test_a_chief_alone_is_a_whole_gang(scene: Scene) -> None:
    scene.add_worker("a", 1)
    job_id = scene.submit(workers=0)
    scene.reconcile()
    scene.claim(job_id, CHIEF)
    scene.reconcile()

    assert scene.job(job_id).cluster == {"chief": ["10.0.0.7:2222"]}


def test_without_a_worker_a_job_says_how_to_start_one(scene: Scene) -> None:
    job_id = scene.submit(workers=2)

    scene.reconcile()

    job = scene.job(job_id)
    assert (job.state, job.reason) == (State.PENDING, Reason.WAITING_FOR_SLOTS)
    assert "needs 3 slots on queue 'default'" in job.message
    assert "runner worker --slots 3" in job.message


def test_a_gang_that_does_not_fit_begins_not_even_in_part(scene: Scene) -> None:
    scene.add_worker("a", 2)
    job_id = scene.submit(workers=2)

    scene.reconcile()

    assert scene.job(job_id).message == "needs 3 slots on queue 'default', which has 2; start more workers"
    assert scene.job(job_id).generation == 0
    assert scene.dispatcher.sent == []


def test_a_waiting_gang_begins_once_enough_slots_are_there(scene: Scene) -> None:
    scene.add_worker("a", 2)
    job_id = scene.submit(workers=2)
    scene.reconcile()
    scene.add_worker("b", 1)

    scene.reconcile()

    assert scene.job(job_id).state is State.STARTING
    assert scene.dispatcher.sent == [(job_id, 1, place, "default") for place in (CHIEF, WORKER0, WORKER1)]


def test_two_gangs_never_share_the_slots_of_one(scene: Scene) -> None:
    scene.add_worker("a", 3)
    first, second = scene.submit("one"), scene.submit("two")

    scene.reconcile()
    scene.reconcile()

    assert scene.job(first).state is State.STARTING
    assert scene.job(second).message == "needs 2 slots on queue 'default', 1 free"


def test_a_gang_that_does_not_fit_yet_is_not_overtaken(scene: Scene) -> None:
    scene.add_worker("a", 2)
    scene.submit("running", workers=0)
    large, small = scene.submit("large", workers=1), scene.submit("small", workers=0)

    scene.reconcile()

    assert scene.job(large).message == "needs 2 slots on queue 'default', 1 free"
    assert scene.job(small).message == f"needs 1 slot on queue 'default', 1 free, after job {large}"


def test_a_gang_that_is_larger_than_its_queue_lets_others_pass(scene: Scene) -> None:
    scene.add_worker("a", 1)
    large, small = scene.submit("large", workers=1), scene.submit("small", workers=0)

    scene.reconcile()

    assert scene.job(large).message == "needs 2 slots on queue 'default', which has 1; start more workers"
    assert scene.job(small).state is State.STARTING


def test_workers_of_which_too_little_was_seen_keep_a_turn(scene: Scene) -> None:
    for worker in ("a", "b"):
        scene.store.announce(WorkerInfo(id=worker, host="h", pid=1, queue="default", slots=1))
    scene.coordinator = scene.start_coordinator()
    large, small = scene.submit("large", workers=1), scene.submit("small", workers=0)

    scene.add_worker("a", 1)  # seen to beat before "b" is
    scene.reconcile()

    assert [scene.job(job_id).state for job_id in (large, small)] == [State.PENDING] * 2


def test_a_higher_priority_goes_first(scene: Scene) -> None:
    scene.add_worker("a", 1)
    low, high = scene.submit("low", workers=0), scene.submit("high", workers=0, priority=1)

    scene.reconcile()

    assert scene.job(high).state is State.STARTING
    assert scene.job(low).state is State.PENDING


def test_slots_of_another_queue_do_not_count(scene: Scene) -> None:
    scene.add_worker("a", 4, queue="gpu")
    job_id = scene.submit()

    scene.reconcile()

    assert "no worker serves it" in scene.job(job_id).message


def test_slots_are_free_again_after_a_job_has_ended(scene: Scene) -> None:
    first = scene.run_to_training()
    second = scene.submit("second")
    scene.reconcile()
    assert scene.job(second).message == "needs 2 slots on queue 'default', 0 free"

    scene.release(first, WORKER0, COMPLETED)
    scene.release(first, CHIEF, COMPLETED)
    scene.reconcile()

    assert scene.job(second).state is State.STARTING


def test_a_worker_that_stops_beating_is_withdrawn(scene: Scene) -> None:
    scene.add_worker("a", 2)
    scene.reconcile()
    scene.silent.add("a")

    scene.advance(16)

    assert scene.store.workers() == []


def test_a_worker_found_by_a_new_coordinator_counts_once_it_beats(scene: Scene) -> None:
    scene.store.announce(WorkerInfo(id="long-dead", host="h", pid=1, queue="default", slots=8))
    scene.coordinator = scene.start_coordinator()
    job_id = scene.submit()

    scene.reconcile()
    assert scene.job(job_id).state is State.PENDING
    scene.add_worker("long-dead", 8)
    scene.reconcile()

    assert scene.job(job_id).state is State.STARTING


def test_unclaimed_places_are_rung_for_again(scene: Scene) -> None:
    scene.add_worker("a", 2)
    job_id = scene.submit()
    scene.reconcile()
    assert scene.dispatcher.places() == [CHIEF, WORKER0]
    scene.claim(job_id, CHIEF)

    scene.advance(4)
    assert scene.dispatcher.places() == []
    scene.advance(1)

    assert scene.dispatcher.places() == [WORKER0]


def test_a_generation_is_sealed_when_all_places_are_claimed(scene: Scene) -> None:
    scene.add_worker("a", 3)
    job_id = scene.submit(workers=2)
    scene.reconcile()
    scene.claim(job_id, CHIEF, WORKER0)
    scene.reconcile()
    assert scene.job(job_id).cluster is None

    scene.claim(job_id, WORKER1)
    scene.reconcile()

    assert scene.job(job_id).cluster == {"chief": ["10.0.0.7:2222"], "worker": ["10.0.0.7:2223", "10.0.0.7:2222"]}


def test_a_gang_that_does_not_come_together_is_released_and_tries_again_later(scene: Scene) -> None:
    scene.add_worker("a", 2)
    job_id = scene.submit()
    scene.reconcile()
    scene.claim(job_id, CHIEF)

    scene.advance(60)
    assert scene.job(job_id).closing
    assert scene.job(job_id).settled == 0
    scene.release(job_id, CHIEF, STOPPED)
    scene.reconcile()

    job = scene.job(job_id)
    assert (job.state, job.reason, job.failures) == (State.PENDING, Reason.RENDEZVOUS_TIMEOUT, 0)
    assert "1 of 2" in job.message
    scene.advance(4)
    assert scene.job(job_id).generation == 1
    scene.advance(1)
    assert scene.job(job_id).generation == 2
    assert scene.job(job_id).state is State.STARTING


def test_a_break_does_not_count_as_time_to_come_together(scene: Scene) -> None:
    scene.add_worker("a", 2)
    job_id = scene.submit()
    scene.reconcile()
    scene.now += 3600

    scene.reconcile()

    assert not scene.job(job_id).closing


def test_the_wait_after_a_failed_rendezvous_grows(scene: Scene) -> None:
    scene.add_worker("a", 2)
    job_id = scene.submit()
    scene.reconcile()
    scene.advance(60 + 5 + 60)
    assert scene.job(job_id).generation == 2

    scene.advance(9)
    assert scene.job(job_id).generation == 2
    scene.advance(1)

    assert scene.job(job_id).generation == 3


def test_a_waiting_job_is_cancelled_at_once(scene: Scene) -> None:
    job_id = scene.submit()
    scene.store.request_cancel(job_id)

    scene.reconcile()

    assert scene.job(job_id).state is State.CANCELLED


def test_a_running_job_drains_before_it_is_cancelled(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.store.request_cancel(job_id)
    scene.reconcile()
    job = scene.job(job_id)
    assert (job.state, job.reason, job.closing) == (State.DRAINING, Reason.CANCEL_REQUESTED, True)

    scene.release(job_id, CHIEF, STOPPED)
    scene.reconcile()
    assert scene.job(job_id).state is State.DRAINING
    scene.release(job_id, WORKER0, STOPPED)
    scene.reconcile()

    assert scene.job(job_id).state is State.CANCELLED


def test_a_job_that_completes_while_it_is_cancelled_has_succeeded(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.store.request_cancel(job_id)
    scene.reconcile()

    scene.release(job_id, CHIEF, COMPLETED)
    scene.release(job_id, WORKER0, STOPPED)
    scene.reconcile()

    assert scene.job(job_id).state is State.SUCCEEDED


def test_a_cancelled_job_ends_although_its_tasks_are_lost(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.silent |= {str(CHIEF), str(WORKER0), "a"}
    scene.store.request_cancel(job_id)

    scene.advance(16)

    assert scene.job(job_id).state is State.CANCELLED


def test_a_recovering_job_can_be_cancelled(scene: Scene) -> None:
    job_id = scene.run_to_training()
    scene.release(job_id, CHIEF, KILLED)
    scene.release(job_id, WORKER0, STOPPED)
    scene.store.withdraw("a")
    scene.reconcile()
    assert scene.job(job_id).state is State.RECOVERING
    scene.store.request_cancel(job_id)

    scene.reconcile()

    assert scene.job(job_id).state is State.CANCELLED
