"""The job store on a real Valkey."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.cluster import Place
from runner.errors import JobNotFoundError, ModelDirInUseError, RedisUnavailableError, StaleEpochError
from runner.jobs import scripts
from runner.jobs.fields import events_key, flat, job_fields, job_key
from runner.jobs.spec import JobSpec
from runner.jobs.state import Claim, JobRecord, Outcome, OutcomeKind, Progress, Reason, Section, State, WorkerInfo
from runner.jobs.store import JobStore
from runner.settings import Settings

CHIEF, WORKER = Place.parse("chief:0"), Place.parse("worker:0")


def spec(model_dir: str = "/models/iris", *, workers: int = 1, priority: int = 0) -> JobSpec:
    return JobSpec(entry="iris:experiment", model_dir=model_dir, workers=workers, name="iris", priority=priority)


def claim(token: str = "t") -> Claim:
    return Claim(token=token, worker="w", host="10.0.0.7", port=2222, pid=42)


def begun(store: JobStore) -> tuple[int, JobRecord]:
    """An epoch, and a job whose first generation has begun."""
    epoch = store.take_over()
    job = store.submit(spec())
    store.begin_generation(epoch, job)
    return epoch, store.job(job.id)


def test_a_submitted_job_is_pending_and_read_back_equal(store: JobStore) -> None:
    job = store.submit(spec())

    assert store.job(job.id) == job
    assert store.jobs() == store.active_jobs() == [job]
    assert (job.state, job.reason, job.generation, job.settled) == (State.PENDING, Reason.SUBMITTED, 0, 0)


def test_times_are_those_of_the_clock_in_utc(settings: Settings) -> None:
    store = JobStore(settings, now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))

    job = store.submit(spec())

    assert job.submitted_at == "2026-01-02T03:04:05.000Z"
    assert [event.time for event in store.events(job.id)] == ["2026-01-02T03:04:05.000Z"]
    store.close()


def test_an_unknown_job_is_not_found(store: JobStore) -> None:
    with pytest.raises(JobNotFoundError, match="nobody-aaaaaaaa"):
        store.job("nobody-aaaaaaaa")
    with pytest.raises(JobNotFoundError):
        store.request_cancel("nobody-aaaaaaaa")


@pytest.mark.parametrize("suffix", [":events", ":logs", "/../x", " ", "\n"])
def test_what_is_no_id_is_not_found(store: JobStore, suffix: str) -> None:
    job = store.submit(spec())
    store.append_logs(job.id, 1, CHIEF, ["hello"])

    with pytest.raises(JobNotFoundError):
        store.job(job.id + suffix)


def test_a_second_job_on_a_model_dir_is_refused_and_leaves_no_trace(store: JobStore) -> None:
    job = store.submit(spec())

    with pytest.raises(ModelDirInUseError, match=job.id):
        store.submit(spec())

    assert store.jobs() == [job]
    assert store.holder("/models/iris") == job.id


def test_a_submission_whose_reply_was_lost_is_not_in_its_own_way(store: JobStore) -> None:
    job = store.submit(spec())
    keys = [job_key(job.id), events_key(job.id)]

    again = store._script(scripts.SUBMIT, keys, job.id, "/models/iris", 0, "event", *flat(job_fields(job)))

    assert again == ""
    assert len(store.events(job.id)) == 1


def test_a_model_dir_is_free_once_its_job_has_ended(store: JobStore) -> None:
    epoch = store.take_over()
    job = store.submit(spec())

    store.transition(epoch, job, State.CANCELLED, Reason.CANCEL_REQUESTED, "cancelled")

    assert store.holder("/models/iris") is None
    assert store.submit(spec()).id != job.id


def test_another_name_of_a_model_dir_is_the_same_model_dir(store: JobStore, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "other").mkdir()
    (link := tmp_path / "link").symlink_to("model")
    job = store.submit(spec(model_dir=str(link)))

    for name in (str(tmp_path / "model"), str(link)):
        assert store.holder(name) == job.id
        with pytest.raises(ModelDirInUseError, match=job.id):
            store.submit(spec(model_dir=name))

    # What was reserved is freed, wherever the link leads by then.
    link.unlink()
    link.symlink_to("other")
    store.transition(store.take_over(), store.job(job.id), State.CANCELLED, Reason.CANCEL_REQUESTED, "cancelled")
    assert store.holder(str(tmp_path / "model")) is None


def test_jobs_are_admitted_by_priority_and_then_by_age(store: JobStore) -> None:
    first, urgent, last = (
        store.submit(spec(f"/models/{i}", priority=priority)).id for i, priority in enumerate((0, 5, 0))
    )

    assert [job.id for job in store.active_jobs()] == [urgent, first, last]
    assert [job.id for job in store.jobs()] == [first, urgent, last]


def test_a_job_that_has_ended_never_changes_again(store: JobStore) -> None:
    epoch = store.take_over()
    job = store.submit(spec())
    store.transition(epoch, job, State.SUCCEEDED, Reason.COMPLETED, "completed", metrics={"accuracy": 0.9})
    ended = store.job(job.id)

    assert not store.transition(epoch, ended, State.FAILED, Reason.MAX_FAILURES, "no")
    assert not store.request_cancel(job.id).cancel

    assert store.job(job.id) == ended
    assert ended.metrics == {"accuracy": 0.9}
    assert ended.ended_at is not None
    assert store.active_jobs() == []


def test_only_a_new_state_or_reason_is_an_event(store: JobStore) -> None:
    epoch = store.take_over()
    job = store.submit(spec())
    for message in ("needs 2 slots, 0 free", "needs 2 slots, 1 free"):
        store.transition(epoch, store.job(job.id), State.PENDING, Reason.WAITING_FOR_SLOTS, message)

    assert [event.reason for event in store.events(job.id)] == [Reason.SUBMITTED, Reason.WAITING_FOR_SLOTS]
    assert store.job(job.id).message == "needs 2 slots, 1 free"


def test_a_place_is_claimed_once(store: JobStore) -> None:
    _, job = begun(store)

    assert store.claim(job.id, 1, CHIEF, claim("first")) == ""
    assert store.claim(job.id, 1, CHIEF, claim("second")) == "place is taken"

    assert store.tasks(job)[CHIEF].claim == claim("first")


def test_a_place_of_another_generation_cannot_be_claimed(store: JobStore) -> None:
    epoch, job = begun(store)
    assert store.claim(job.id, 2, CHIEF, claim()) == "generation is not current"

    store.begin_generation(epoch, job)

    assert store.claim(job.id, 1, CHIEF, claim()) == "generation is not current"
    assert store.claim(job.id, 2, CHIEF, claim()) == ""


def test_a_place_of_a_closing_generation_cannot_be_claimed(store: JobStore) -> None:
    epoch, job = begun(store)

    store.close_generation(epoch, job)

    assert store.claim(job.id, 1, CHIEF, claim()) == "generation is closing"


def test_a_place_of_a_job_that_does_not_exist_cannot_be_claimed(store: JobStore) -> None:
    assert store.claim("nobody-aaaaaaaa", 1, CHIEF, claim()) != ""


def test_a_generation_begins_once(store: JobStore) -> None:
    epoch = store.take_over()
    job = store.submit(spec())

    assert store.begin_generation(epoch, job) == 1
    assert store.begin_generation(epoch, job) is None

    assert store.job(job.id).generation == 1


def test_the_tasks_of_the_last_generation_are_forgotten_when_the_next_one_begins(store: JobStore) -> None:
    epoch, job = begun(store)
    assert store.claim(job.id, 1, CHIEF, claim()) == ""

    assert store.begin_generation(epoch, job) == 2

    assert store._redis.keys("*:tasks:*") == []
    assert not store.beat(job.id, 1, CHIEF, token="t", progress=None).held


def test_the_events_of_a_job_that_tries_for_ever_are_bounded(store: JobStore) -> None:
    epoch, job = begun(store)

    for number in range(1010):
        store.transition(epoch, job, State.RECOVERING, Reason.TASK_LOST, str(number))

    assert [event.message for event in store.events(job.id)] == [str(number) for number in range(10, 1010)]


def test_a_beat_renews_the_lease_and_brings_the_cluster(store: JobStore) -> None:
    epoch, job = begun(store)
    store.claim(job.id, 1, CHIEF, claim())
    progress = Progress(section=Section.TRAIN, step=7, loss=0.5)

    before = store.beat(job.id, 1, CHIEF, token="t", progress=progress)
    store.seal(epoch, job, {"chief": ["10.0.0.7:2222"]})
    after = store.beat(job.id, 1, CHIEF, token="t", progress=None)

    assert (before.held, before.closing, before.cluster) == (True, False, None)
    assert after.cluster == {"chief": ["10.0.0.7:2222"]}
    task = store.tasks(job)[CHIEF]
    assert (task.lease, task.progress) == (3, progress)


def test_a_beat_with_a_foreign_token_holds_nothing(store: JobStore) -> None:
    _, job = begun(store)
    store.claim(job.id, 1, CHIEF, claim("mine"))

    beat = store.beat(job.id, 1, CHIEF, token="theirs", progress=None)

    assert (beat.held, beat.closing) == (False, True)
    assert store.tasks(job)[CHIEF].lease == 1


def test_a_beat_of_a_task_that_was_declared_lost_holds_nothing(store: JobStore) -> None:
    epoch, job = begun(store)
    store.claim(job.id, 1, CHIEF, claim())
    store.end_task(epoch, job, CHIEF, Outcome(kind=OutcomeKind.LOST))

    assert not store.beat(job.id, 1, CHIEF, token="t", progress=None).held


def test_a_beat_in_an_older_generation_says_closing(store: JobStore) -> None:
    epoch, job = begun(store)
    store.claim(job.id, 1, CHIEF, claim())

    store.begin_generation(epoch, job)

    assert store.beat(job.id, 1, CHIEF, token="t", progress=None).closing


def test_the_first_outcome_of_a_task_stands(store: JobStore) -> None:
    epoch, job = begun(store)
    store.claim(job.id, 1, CHIEF, claim())

    store.release(job.id, 1, CHIEF, token="theirs", outcome=Outcome(kind=OutcomeKind.FAILED))
    store.release(job.id, 1, CHIEF, token="t", outcome=Outcome(kind=OutcomeKind.COMPLETED, step=200))
    store.end_task(epoch, job, CHIEF, Outcome(kind=OutcomeKind.LOST))

    task = store.tasks(job)[CHIEF]
    assert task.outcome == Outcome(kind=OutcomeKind.COMPLETED, step=200)
    assert not task.is_open


def test_a_generation_that_is_closing_cannot_be_sealed(store: JobStore) -> None:
    epoch, job = begun(store)
    store.close_generation(epoch, job)

    assert not store.seal(epoch, job, {"chief": ["10.0.0.7:2222"]})


def test_an_older_coordinator_cannot_write(store: JobStore) -> None:
    old, job = begun(store)
    store.take_over()

    with pytest.raises(StaleEpochError):
        store.check_epoch(old)
    with pytest.raises(StaleEpochError):
        store.transition(old, job, State.RUNNING, Reason.TRAINING, "training")
    with pytest.raises(StaleEpochError):
        store.begin_generation(old, job)
    with pytest.raises(StaleEpochError):
        store.seal(old, job, {})
    with pytest.raises(StaleEpochError):
        store.close_generation(old, job)
    with pytest.raises(StaleEpochError):
        store.end_task(old, job, CHIEF, Outcome(kind=OutcomeKind.LOST))

    assert store.job(job.id) == job


def test_log_lines_come_in_order_and_from_where_one_left_off(store: JobStore) -> None:
    _, job = begun(store)
    store.append_logs(job.id, 1, CHIEF, ["one", "two"])
    store.append_logs(job.id, 1, WORKER, ["three"])

    lines = store.logs(job.id)

    assert [(str(line.place), line.line) for line in lines] == [
        ("chief:0", "one"),
        ("chief:0", "two"),
        ("worker:0", "three"),
    ]
    assert store.logs(job.id, after=lines[1].id) == lines[2:]
    assert store.logs(job.id, after=lines[2].id, wait_secs=0.01) == []


def test_workers_announce_and_withdraw_themselves(store: JobStore) -> None:
    worker = WorkerInfo(id="w", host="h", pid=1, queue="default", slots=2)
    store.announce(worker)
    store.announce(worker)

    assert [(info.id, info.beat) for info in store.workers()] == [("w", 2)]

    store.withdraw("w")

    assert store.workers() == []


def test_a_change_wakes_the_coordinator(store: JobStore) -> None:
    wakes = store.wakes()
    while wakes.wait(0.01):
        pass

    assert not wakes.wait(0.01)
    store.submit(spec())
    assert wakes.wait(5)

    wakes.close()


def test_a_redis_that_is_not_there_says_how_to_start_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere")
    store = JobStore(Settings(redis_url=f"unix://{nowhere}/redis.sock", runtime_dir=nowhere))

    with pytest.raises(RedisUnavailableError, match="runner up"):
        store.ping()
    with pytest.raises(ConnectionError):
        store.submit(spec())


def test_jobs_are_in_order_of_submission_however_fast_they_come(store: JobStore) -> None:
    specs = [JobSpec(entry="a:b", model_dir=f"/models/{number}", name="job") for number in range(50)]

    ids = [store.submit(spec).id for spec in specs]

    assert [job.id for job in store.jobs()] == ids
    assert [job.id for job in store.active_jobs()] == ids
