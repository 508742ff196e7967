"""Real worker processes on a real Valkey; the training processes speak the protocol and need no TensorFlow."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.cluster import Place, TaskType
from runner.jobs.spec import JobSpec
from runner.jobs.state import Claim, OutcomeKind, Task
from runner.jobs.store import JobStore
from runner.settings import Settings
from tests.protocol import is_running, program
from tests.waiting import wait_until
from workers.celery import make_app
from workers.tasks import RUN_TASK

CHIEF = Place(TaskType.CHIEF, 0)

WORKER = """
import logging, sys
from pathlib import Path
from runner.settings import Settings
from workers.celery import make_app, run_worker

logging.basicConfig(level=logging.INFO)
settings = Settings(redis_url={url!r}, runtime_dir=Path({runtime_dir!r}), beat_secs=0.05, grace_secs=0.5)
sys.exit(run_worker(make_app(settings, trainer_command={command!r}), slots={slots}, queue="default"))
"""

BODY = """
print("ready")
sealed.wait()
end("completed")
"""


class Jobs:
    """The coordinator's side: jobs whose first generation has begun, and messages for their chiefs."""

    def __init__(self, store: JobStore, settings: Settings, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self._app = make_app(settings)
        self._epoch = store.take_over()

    def begin(self, name: str) -> str:
        spec = JobSpec(entry="a:b", model_dir=str(self._directory / name), name=name)
        job = self._store.submit(spec)
        assert self._store.begin_generation(self._epoch, job) == 1
        return job.id

    def ring(self, job_id: str, *, serializer: str = "json") -> None:
        arguments = {"job_id": job_id, "generation": 1, "task_type": "chief", "index": 0}
        self._app.send_task(RUN_TASK, kwargs=arguments, queue="default", serializer=serializer)

    def start(self, name: str) -> str:
        job_id = self.begin(name)
        self.ring(job_id)
        return job_id

    def seal(self, job_id: str) -> None:
        assert self._store.seal(self._epoch, self._store.job(job_id), {"chief": ["127.0.0.1:1"]})

    def chief(self, job_id: str) -> Task:
        return self._store.tasks(self._store.job(job_id))[CHIEF]

    def claim(self, job_id: str) -> Claim:
        claim = wait_until(lambda: self.chief(job_id).claim)
        assert claim is not None
        return claim

    def outcome(self, job_id: str) -> OutcomeKind:
        outcome = wait_until(lambda: self.chief(job_id).outcome)
        assert outcome is not None
        return outcome.kind

    def is_ready(self, job_id: str) -> bool:
        return any(line.line == "ready" for line in self._store.logs(job_id))


@pytest.fixture
def jobs(store: JobStore, settings: Settings, tmp_path: Path) -> Jobs:
    return Jobs(store, settings, tmp_path)


@pytest.fixture
def valkey_pid(store: JobStore) -> int:
    return int(store._redis.info("server")["process_id"])


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start_worker(store: JobStore, settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker whose training processes do what the argument says, and waits until it is announced."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(body: str = BODY, *, slots: int = 1) -> subprocess.Popen[bytes]:
        source = WORKER.format(
            url=settings.redis_url, runtime_dir=str(settings.runtime_dir), command=program(tmp_path, body), slots=slots
        )
        processes.append(process := subprocess.Popen([sys.executable, "-c", source]))
        wait_until(lambda: any(worker.pid == process.pid for worker in store.workers()))
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_message_runs_its_task(jobs: Jobs, start_worker: Start) -> None:
    start_worker()
    job_id = jobs.start("job")

    claim = jobs.claim(job_id)
    jobs.seal(job_id)

    assert jobs.outcome(job_id) is OutcomeKind.COMPLETED
    assert claim.host == "127.0.0.1"
    assert claim.port > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_worker_that_is_told_to_stop_drains(
    jobs: Jobs, store: JobStore, start_worker: Start, number: signal.Signals
) -> None:
    worker = start_worker()
    job_id = jobs.start("job")
    claim = jobs.claim(job_id)
    wait_until(lambda: jobs.is_ready(job_id))

    worker.send_signal(number)

    worker.wait(60)
    assert jobs.outcome(job_id) is OutcomeKind.DRAINED
    assert not is_running(claim.pid)
    assert store.workers() == []


def test_a_process_that_ignores_term_does_not_hold_up_the_shutdown(jobs: Jobs, start_worker: Start) -> None:
    worker = start_worker("signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); forever.wait()")
    job_id = jobs.start("job")
    claim = jobs.claim(job_id)
    wait_until(lambda: jobs.is_ready(job_id))

    worker.terminate()

    assert worker.wait(60) == 0
    assert jobs.outcome(job_id) is OutcomeKind.DRAINED
    assert not is_running(claim.pid)


def test_a_redis_that_hangs_does_not_hold_up_the_shutdown(jobs: Jobs, start_worker: Start, valkey_pid: int) -> None:
    worker = start_worker()
    job_id = jobs.start("job")
    claim = jobs.claim(job_id)
    wait_until(lambda: jobs.is_ready(job_id))

    os.kill(valkey_pid, signal.SIGSTOP)
    try:
        worker.terminate()
        # Celery itself would wait for its broker without a limit.
        assert worker.wait(60) == 1
    finally:
        os.kill(valkey_pid, signal.SIGCONT)

    assert not is_running(claim.pid)


def test_a_killed_worker_leaves_no_training_process(jobs: Jobs, start_worker: Start) -> None:
    body = """
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    report(progress={"step": child.pid})
    forever.wait()
    """
    worker = start_worker(body)
    job_id = jobs.start("job")
    claim = jobs.claim(job_id)
    child = wait_until(lambda: jobs.chief(job_id).progress.step)
    assert child is not None

    worker.kill()

    wait_until(lambda: not is_running(claim.pid))
    wait_until(lambda: not is_running(child))


def test_pickle_is_refused(jobs: Jobs, start_worker: Start) -> None:
    start_worker()
    pickled = jobs.begin("pickled")

    jobs.ring(pickled, serializer="pickle")
    job_id = jobs.start("json")
    jobs.claim(job_id)
    jobs.seal(job_id)

    # The queue is in order, so the first message has been refused by now.
    assert jobs.outcome(job_id) is OutcomeKind.COMPLETED
    assert jobs.chief(pickled).claim is None


def test_a_message_does_not_wait_behind_a_busy_worker(jobs: Jobs, start_worker: Start) -> None:
    busy = start_worker()
    first = jobs.start("first")
    jobs.claim(first)
    second = jobs.start("second")

    free = start_worker()

    assert f"-{free.pid}-" in jobs.claim(second).worker
    assert f"-{busy.pid}-" in jobs.claim(first).worker


def test_a_worker_runs_as_many_tasks_as_it_has_slots(jobs: Jobs, start_worker: Start) -> None:
    start_worker(slots=2)
    both = [jobs.start("first"), jobs.start("second")]

    claims = [jobs.claim(job_id) for job_id in both]

    assert claims[0].port != claims[1].port
    for job_id in both:
        jobs.seal(job_id)
        assert jobs.outcome(job_id) is OutcomeKind.COMPLETED


def test_a_job_on_the_queue_of_another_celery_app_is_not_touched(store: JobStore, start_worker: Start) -> None:
    store._redis.rpush("default", "not ours")

    start_worker()

    assert store._redis.lrange("default", 0, -1) == ["not ours"]


@pytest.mark.parametrize(
    "command",
    [
        ["runner.cli", "worker", "--slots", "3"],
        ["celery", "-A", "workers", "worker", "--concurrency", "3"],
    ],
)
def test_a_worker_is_there_while_it_runs(store: JobStore, settings: Settings, command: list[str]) -> None:
    environ = {**os.environ, "RUNNER_REDIS_URL": settings.redis_url}
    with subprocess.Popen([sys.executable, "-m", *command], env=environ) as process:
        (worker,) = wait_until(store.workers)

        assert (worker.pid, worker.queue, worker.slots) == (process.pid, "default", 3)
        process.terminate()
        assert process.wait(60) == 0
    assert store.workers() == []
