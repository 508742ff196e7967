"""A supervisor between a real Valkey and real processes that speak the trainer's protocol."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from runner.jobs.state import Claim, Outcome, OutcomeKind, Progress, Section
from runner.jobs.store import JobStore
from runner.settings import Settings
from tests.generation import CHIEF, Generation, redis_away
from tests.protocol import is_running, program
from tests.waiting import wait_until
from workers.messages import Report
from workers.supervisor import Supervisor


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Short times between beats and before a kill."""
    return replace(settings, beat_secs=0.05, grace_secs=0.5)


@pytest.fixture
def generation(store: JobStore, tmp_path: Path) -> Generation:
    return Generation(store, tmp_path / "model")


@pytest.fixture
def supervisor(
    store: JobStore, settings: Settings, generation: Generation, tmp_path: Path
) -> Callable[[str], Supervisor]:
    """Makes the supervisor of the chief, whose training process does what the argument says."""

    def make(body: str, *, number: int = 1) -> Supervisor:
        return Supervisor(
            store,
            settings,
            job_id=generation.id,
            generation=number,
            place=CHIEF,
            worker="worker-1",
            cache_dir=tmp_path / "cache",
            environ=os.environ,
            command=program(tmp_path, body),
        )

    return make


Start = Callable[[Supervisor], "Future[Outcome | None]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs supervisors in threads, as Celery does."""
    started: list[Supervisor] = []
    with ThreadPoolExecutor() as threads:

        def run(supervisor: Supervisor) -> "Future[Outcome | None]":
            started.append(supervisor)
            return threads.submit(supervisor.run)

        yield run
        for supervisor in started:  # so that a failed test ends too
            supervisor.kill()


def test_a_task_that_completes_releases_its_place_with_its_outcome(
    supervisor: Callable[[str], Supervisor], generation: Generation
) -> None:
    outcome = supervisor("end('completed', 'done')").run()

    assert outcome == Outcome(kind=OutcomeKind.COMPLETED, message="done")
    assert generation.chief.outcome == outcome


def test_the_process_gets_its_task_the_cluster_and_the_environment(
    supervisor: Callable[[str], Supervisor], generation: Generation, start: Start
) -> None:
    body = """
    assert task["task_type"] == "chief" and task["entry"] == "a:b" and task["generation"] == 1, task
    names = ["COLOUR", "TF_GRPC_REUSE_PORT", "PYTHONUNBUFFERED"]
    assert [os.environ[name] for name in names] == ["blue", "1", "1"]
    print("ready")
    sealed.wait()
    end("completed", json.dumps(cluster))
    """

    future = start(supervisor(body))
    wait_until(generation.has_logged("ready"))
    generation.seal()

    # A chief alone runs without a server: its roster is empty.
    assert future.result() == Outcome(kind=OutcomeKind.COMPLETED, message="{}")


def test_progress_travels_with_the_lease(
    supervisor: Callable[[str], Supervisor], generation: Generation, start: Start
) -> None:
    body = "report(progress={'section': 'train', 'step': 7, 'loss': 0.5}); sealed.wait(); end('completed')"

    future = start(supervisor(body))
    wait_until(lambda: generation.chief.progress == Progress(section=Section.TRAIN, step=7, loss=0.5))
    lease = generation.chief.lease
    wait_until(lambda: generation.chief.lease > lease)

    generation.seal()
    assert future.result() is not None


def test_a_process_that_says_how_it_failed_is_believed(supervisor: Callable[[str], Supervisor]) -> None:
    outcome = supervisor("report(outcome={'kind': 'failed', 'message': 'boom', 'step': 3}); sys.exit(1)").run()

    assert outcome == Outcome(kind=OutcomeKind.FAILED, message="boom", step=3)


def test_a_metric_that_is_not_a_number_arrives_as_it_is(
    supervisor: Callable[[str], Supervisor], generation: Generation
) -> None:
    report = Report(
        progress=Progress(section=Section.EVAL, loss=math.nan),
        outcome=Outcome(kind=OutcomeKind.COMPLETED, metrics={"loss": math.nan, "best": math.inf}),
    )

    # As the trainer writes it.
    supervisor(f"reports.write({report.model_dump_json(exclude_none=True)!r} + chr(10)); sys.exit(0)").run()

    outcome = generation.chief.outcome
    assert outcome is not None
    assert outcome.kind is OutcomeKind.COMPLETED
    assert outcome.metrics is not None
    assert math.isnan(outcome.metrics["loss"])
    assert outcome.metrics["best"] == math.inf


def test_a_process_that_just_raises_is_killed_with_its_exit_code(
    supervisor: Callable[[str], Supervisor], generation: Generation
) -> None:
    outcome = supervisor("raise RuntimeError('no word of this')").run()

    assert outcome is not None
    assert outcome.kind is OutcomeKind.KILLED
    assert "exit code 1" in outcome.message
    assert "RuntimeError: no word of this" in generation.log


def test_a_process_killed_by_the_system_may_have_run_out_of_memory(
    supervisor: Callable[[str], Supervisor], generation: Generation, start: Start
) -> None:
    future = start(supervisor("report(progress={'step': 7}); print('ready'); forever.wait()"))
    wait_until(generation.has_logged("ready"))
    wait_until(lambda: generation.chief.progress.step == 7)

    os.kill(generation.pid(), signal.SIGKILL)

    outcome = future.result()
    assert outcome is not None
    assert (outcome.kind, outcome.step) == (OutcomeKind.KILLED, 7)
    assert "SIGKILL. Perhaps the system ran out of memory" in outcome.message
    assert "memory" in outcome.message


def test_a_closing_generation_ends_its_process(
    supervisor: Callable[[str], Supervisor], generation: Generation, start: Start
) -> None:
    future = start(supervisor("forever.wait()"))
    pid = generation.pid()

    generation.close()

    outcome = future.result()
    assert outcome is not None
    assert outcome.kind is OutcomeKind.STOPPED
    assert not is_running(pid)


def test_a_process_that_ignores_term_is_killed_after_the_grace_time(
    supervisor: Callable[[str], Supervisor], generation: Generation, start: Start
) -> None:
    future = start(supervisor("signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); forever.wait()"))
    wait_until(generation.has_logged("ready"))

    generation.close()

    outcome = future.result()
    assert outcome is not None
    assert outcome.kind is OutcomeKind.STOPPED


def test_a_process_that_does_not_leave_after_its_outcome_is_killed(supervisor: Callable[[str], Supervisor]) -> None:
    outcome = supervisor("report(outcome={'kind': 'completed'}); forever.wait()").run()

    assert outcome == Outcome(kind=OutcomeKind.COMPLETED)


def test_a_lost_lease_ends_its_process_and_changes_nothing(
    supervisor: Callable[[str], Supervisor], generation: Generation, store: JobStore, start: Start
) -> None:
    future = start(supervisor("forever.wait()"))
    pid = generation.pid()
    lost = Outcome(kind=OutcomeKind.LOST, message="silent")

    store.end_task(generation.epoch, generation.job, CHIEF, lost)

    outcome = future.result()
    assert outcome is not None
    assert outcome.kind is OutcomeKind.STOPPED
    assert generation.chief.outcome == lost
    assert not is_running(pid)


def test_draining_ends_the_process_as_drained(
    supervisor: Callable[[str], Supervisor], generation: Generation, start: Start
) -> None:
    body = """
    signal.signal(signal.SIGTERM, lambda *_: end("stopped", "saved"))
    print("ready")
    forever.wait()
    """
    draining = supervisor(body)
    future = start(draining)
    wait_until(generation.has_logged("ready"))

    draining.drain()

    assert future.result() == Outcome(kind=OutcomeKind.DRAINED, message="saved")


def test_what_the_process_started_ends_with_it(supervisor: Callable[[str], Supervisor], generation: Generation) -> None:
    body = """
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    print(child.pid)
    end("completed")
    """

    supervisor(body).run()

    wait_until(lambda: not is_running(int(generation.log[0])))  # it is killed, which takes a moment


def test_a_descendant_that_keeps_the_pipes_open_does_not_cost_the_lease(
    supervisor: Callable[[str], Supervisor], generation: Generation
) -> None:
    body = """
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True,
                             close_fds=False)
    print(child.pid)
    end("completed")
    """

    before = time.monotonic()
    supervisor(body).run()
    took_secs = time.monotonic() - before

    os.kill(int(generation.log[0]), signal.SIGKILL)
    # Of the 15 seconds of a lease 5 may go to the last log lines.
    assert took_secs < 8


def test_an_outcome_waits_for_redis(
    supervisor: Callable[[str], Supervisor], generation: Generation, settings: Settings, start: Start, tmp_path: Path
) -> None:
    body = f"""
    print("ready")
    while not os.path.exists({str(tmp_path / "away")!r}): forever.wait(0.01)
    end("completed")
    """
    future = start(supervisor(body))
    pid = generation.pid()
    wait_until(generation.has_logged("ready"))

    with redis_away(settings):
        (tmp_path / "away").touch()
        wait_until(lambda: not is_running(pid))
        assert not future.done()

    assert future.result() == Outcome(kind=OutcomeKind.COMPLETED)
    assert generation.chief.outcome == Outcome(kind=OutcomeKind.COMPLETED)


def test_a_flood_of_output_arrives_whole_and_in_order(
    supervisor: Callable[[str], Supervisor], generation: Generation
) -> None:
    supervisor("print(*range(15_000), sep='\\n'); end('completed')").run()

    assert generation.log == [str(number) for number in range(15_000)]


def test_long_lines_come_in_pieces_and_undecodable_bytes_are_replaced(
    supervisor: Callable[[str], Supervisor], generation: Generation
) -> None:
    body = r"""
    sys.stdout.buffer.write(b"x" * 20_000 + b"\nA\xffB\r\nno end")
    sys.stdout.flush()
    end("completed")
    """

    supervisor(body).run()

    assert generation.log == ["x" * 16_384, "x" * 3_616, "A\ufffdB", "no end"]


def test_a_taken_place_is_left_alone(
    supervisor: Callable[[str], Supervisor], generation: Generation, store: JobStore
) -> None:
    other = Claim(token="other", worker="worker-2", host="10.0.0.2", port=1, pid=1)
    assert store.claim(generation.id, 1, CHIEF, other) == ""

    assert supervisor("print('started'); end('completed')").run() is None

    assert generation.chief.claim == other
    assert generation.log == []


def test_of_two_supervisors_for_one_place_one_trains(
    supervisor: Callable[[str], Supervisor], generation: Generation, start: Start
) -> None:
    futures = [start(supervisor("sealed.wait(); end('completed')")) for _ in range(2)]
    generation.pid()
    generation.seal()

    outcomes = [future.result() for future in futures]

    assert sorted(outcome is None for outcome in outcomes) == [False, True]


@pytest.mark.parametrize("number", [0, 2])
def test_a_message_of_another_generation_ends_at_once(
    supervisor: Callable[..., Supervisor], generation: Generation, number: int
) -> None:
    assert supervisor("end('completed')", number=number).run() is None

    assert generation.chief.claim is None


def test_a_message_of_an_unknown_job_ends_at_once(store: JobStore, settings: Settings, tmp_path: Path) -> None:
    unknown = Supervisor(
        store,
        settings,
        job_id="job-aaaaaaaa",
        generation=1,
        place=CHIEF,
        worker="worker-1",
        cache_dir=tmp_path,
        environ=os.environ,
    )

    assert unknown.run() is None


def test_code_that_is_missing_is_a_configuration_error(store: JobStore, settings: Settings, tmp_path: Path) -> None:
    generation = Generation(store, tmp_path / "model", code="0" * 64)
    broken = Supervisor(
        store,
        settings,
        job_id=generation.id,
        generation=1,
        place=CHIEF,
        worker="worker-1",
        cache_dir=tmp_path,
        environ=os.environ,
    )

    outcome = broken.run()

    assert outcome is not None
    assert outcome.kind is OutcomeKind.CONFIG_ERROR
    assert "0" * 64 in outcome.message
    assert generation.chief.outcome == outcome


def test_an_outage_of_redis_ends_nobody(
    supervisor: Callable[[str], Supervisor],
    generation: Generation,
    settings: Settings,
    start: Start,
    caplog: pytest.LogCaptureFixture,
) -> None:
    future = start(supervisor("print('ready'); sealed.wait(); print('still here'); end('completed')"))
    wait_until(generation.has_logged("ready"))

    with redis_away(settings):
        wait_until(lambda: "trains on without Redis" in caplog.text)
    generation.seal()

    assert future.result() == Outcome(kind=OutcomeKind.COMPLETED)
    assert "still here" in generation.log


def test_an_outage_of_redis_does_not_hold_up_a_chatty_process(
    supervisor: Callable[[str], Supervisor],
    generation: Generation,
    settings: Settings,
    start: Start,
    tmp_path: Path,
) -> None:
    written = tmp_path / "written"
    body = f"""
    print("ready")
    while not os.path.exists({str(tmp_path / "away")!r}): sealed.wait(0.01)
    for number in range(1000): print("x" * 16_000)
    open({str(written)!r}, "w").close()
    sealed.wait()
    end("completed")
    """
    future = start(supervisor(body))
    wait_until(generation.has_logged("ready"))

    with redis_away(settings):
        (tmp_path / "away").touch()
        wait_until(written.exists)
    generation.seal()

    assert future.result() == Outcome(kind=OutcomeKind.COMPLETED)
    assert generation.has_logged("lines were dropped")()
