"""Supervisor: one training process, from the claim of its place to the release."""

import contextlib
import logging
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import redis

from runner.cluster import Place
from runner.errors import (
    CodeSnapshotError,
    JobNotFoundError,
    ModelDirError,
    RedisUnavailableError,
    StoreAccessError,
    TrainerStartError,
)
from runner.jobs.snapshot import snapshot_name, unpack, unpacked
from runner.jobs.spec import JobSpec
from runner.jobs.state import Beat, Claim, JobRecord, Outcome, OutcomeKind, Progress
from runner.jobs.store import JobStore
from runner.settings import Settings
from runner.storage.retry import Retry
from runner.storage.urls import open_directory
from workers.logs import LogPump
from workers.messages import Cluster, Report, TrainerTask
from workers.ports import reserve_port
from workers.process import TrainerProcess

__all__ = ["TRAINER_COMMAND", "Supervisor"]

# -P: nothing of the working directory is imported; the job's code comes from its snapshot.
TRAINER_COMMAND = (sys.executable, "-P", "-m", "workers.trainer")

_FLUSH_SECS = 5.0

_logger = logging.getLogger(__name__)


class Supervisor:
    """Runs one task of one generation.

    Redis being away never ends a training process; a lease that is lost, or a generation that is closing, does.

    Args:
        store: The job store.
        settings: Ports, host and the times between beats and before a kill.
        job_id: The job.
        generation: The attempt for which the task was dispatched.
        place: The place to take.
        worker: Id of the Celery worker, for the claim.
        cache_dir: Where code snapshots are unpacked; shared by the tasks of one user.
        environ: Environment of the training process, before that of the job.
        command: Starts the training process.
    """

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        *,
        job_id: str,
        generation: int,
        place: Place,
        worker: str,
        cache_dir: Path,
        environ: Mapping[str, str],
        command: Sequence[str] = TRAINER_COMMAND,
    ) -> None:
        self._store = store
        self._settings = settings
        self._job_id = job_id
        self._generation = generation
        self._place = place
        self._worker = worker
        self._cache_dir = cache_dir
        self._environ = environ
        self._command = command
        self._token = secrets.token_hex(16)
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._process: TrainerProcess | None = None
        self._progress: Progress | None = None
        self._reported: Outcome | None = None
        self._stop: OutcomeKind | None = None
        self._kill_at: float | None = None
        self._is_redis_away = False

    def __str__(self) -> str:
        return f"job {self._job_id}, generation {self._generation}, {self._place}"

    def run(self) -> Outcome | None:
        """Trains until the process ends, or has to.

        Returns:
            How it ended; None if there was nothing to do, because the place is taken or the generation is over.

        Raises:
            RedisUnavailableError: Redis did not answer before the place was claimed.
        """
        job = self._job()
        if job is None or self._stop is not None:
            return None
        try:
            code_dir = self._code_dir(job.spec)
        except (CodeSnapshotError, ModelDirError, StoreAccessError, FileNotFoundError) as error:
            return self._give_up(OutcomeKind.CONFIG_ERROR, f"The job's code cannot be used: {error}")
        except OSError as error:
            return self._give_up(OutcomeKind.KILLED, f"{self._worker} could not read the job's code: {error}")
        try:
            return self._train(job, code_dir)
        except TrainerStartError as error:
            return self._give_up(OutcomeKind.KILLED, str(error))

    def drain(self) -> None:
        """Ends the training process because its worker shuts down; thread-safe, returns at once."""
        self._request_stop(OutcomeKind.DRAINED)
        self._changed.set()

    def kill(self) -> None:
        """Kills the training process and all that it started, at once; thread-safe."""
        if self._process is not None:
            self._process.kill()

    # Before the claim

    def _job(self) -> JobRecord | None:
        """The job, if its place may still be free; the claim itself decides."""
        try:
            job = self._store.job(self._job_id)
        except JobNotFoundError:
            _logger.info("%s: there is no such job.", self)
            return None
        if job.generation != self._generation or job.closing or self._place not in job.spec.roster:
            _logger.info("%s: over, or never begun; the newest generation is %d.", self, job.generation)
            return None
        if self._store.tasks(job)[self._place].claim is not None:
            _logger.info("%s: the place is taken.", self)
            return None
        return job

    def _code_dir(self, spec: JobSpec) -> Path | None:
        if spec.code is None:
            return None
        if (there := unpacked(spec.code, self._cache_dir)) is not None:
            return there
        directory = open_directory(spec.model_dir, retry=Retry(budget_secs=self._settings.rendezvous_secs / 2))
        data = directory.read_bytes(snapshot_name(spec.code))
        return unpack(data, spec.code, self._cache_dir)

    def _claim(self, *, port: int, pid: int) -> bool:
        host = self._settings.host or self._store.source_address()
        claim = Claim(token=self._token, worker=self._worker, host=host, port=port, pid=pid)
        refusal = self._store.claim(self._job_id, self._generation, self._place, claim)
        if refusal and not self._holds_place():
            _logger.info("%s: refused, %s.", self, refusal)
            return False
        return True

    def _holds_place(self) -> bool:
        # A claim is sent again when its reply was lost, and then refused because of its first self.
        claim = self._store.tasks(self._store.job(self._job_id))[self._place].claim
        return claim is not None and claim.token == self._token

    def _give_up(self, kind: OutcomeKind, message: str) -> Outcome | None:
        """Takes the place only to say why it cannot be filled."""
        _logger.error("%s: %s", self, message)
        outcome = Outcome(kind=kind, message=message)
        if not self._claim(port=0, pid=0):
            return None
        self._release(outcome)
        return outcome

    # Training

    def _train(self, job: JobRecord, code_dir: Path | None) -> Outcome | None:
        with contextlib.ExitStack() as stack:
            pump = LogPump(self._ship)
            stack.callback(pump.close, timeout_secs=_FLUSH_SECS)
            try:
                port = stack.enter_context(reserve_port(self._settings.ports))
                process = self._start(job.spec, pump)
            except OSError as error:
                raise TrainerStartError(f"{self._worker} could not start a training process: {error}") from error
            stack.callback(process.close)
            # The claim names the process, so the process is there first; it waits for its task and does nothing yet.
            if not self._claim(port=port, pid=process.pid):
                return None
            process.send(self._task(job.spec, code_dir))
            self._watch(job.spec, process)
            exit_code = process.close()
        outcome = self._outcome(exit_code)
        _logger.info("%s: %s. %s", self, outcome.kind, outcome.message)
        self._release(outcome)
        return outcome

    def _start(self, spec: JobSpec, pump: LogPump) -> TrainerProcess:
        process = TrainerProcess(
            self._command,
            env=self._env(spec),
            on_output=pump.add,
            on_report=self._on_report,
            on_exit=self._changed.set,
        )
        with self._lock:
            self._process = process
            is_stopped = self._stop is not None
        if is_stopped:
            process.terminate()
        return process

    def _ship(self, lines: list[str]) -> None:
        self._store.append_logs(self._job_id, self._generation, self._place, lines)

    def _env(self, spec: JobSpec) -> dict[str, str]:
        return {**self._environ, **spec.env, "TF_GRPC_REUSE_PORT": "1", "PYTHONUNBUFFERED": "1"}

    def _task(self, spec: JobSpec, code_dir: Path | None) -> TrainerTask:
        return TrainerTask(
            job_id=self._job_id,
            generation=self._generation,
            task_type=self._place.task_type,
            index=self._place.index,
            entry=spec.entry,
            params=spec.params,
            model_dir=spec.model_dir,
            code=spec.code,
            code_dir=str(code_dir) if code_dir else None,
        )

    def _on_report(self, report: Report) -> None:
        if report.progress is not None:
            self._progress = report.progress
        if report.outcome is not None:
            self._reported = report.outcome
            self._changed.set()

    def _watch(self, spec: JobSpec, process: TrainerProcess) -> None:
        """Returns when the process has ended."""
        _logger.info("%s: process %d has the place.", self, process.pid)
        is_told = False
        while not process.has_ended:
            self._changed.clear()
            beat = self._beat()
            if beat is not None and beat.cluster is not None and not is_told:
                process.send(Cluster(addresses=beat.cluster if spec.workers else {}))
                is_told = True
            if beat is not None and (beat.closing or not beat.held):
                self._request_stop(OutcomeKind.STOPPED)
            self._enforce(process)
            self._changed.wait(self._wait_secs())

    def _beat(self) -> Beat | None:
        """Renews the lease; None while Redis is away."""
        try:
            beat = self._store.beat(
                self._job_id, self._generation, self._place, token=self._token, progress=self._progress
            )
        except (RedisUnavailableError, redis.RedisError) as error:
            if not self._is_redis_away:
                _logger.warning("%s: trains on without Redis: %s", self, error)
            self._is_redis_away = True
            return None
        if self._is_redis_away:
            _logger.info("%s: Redis is back.", self)
        self._is_redis_away = False
        return beat

    def _request_stop(self, kind: OutcomeKind) -> None:
        """Sends TERM, once; the watching thread sends KILL after the grace time."""
        with self._lock:
            if self._stop is not None:
                return
            self._stop = kind
            process = self._process
        if process is not None:
            _logger.info("%s: stops process %d (%s).", self, process.pid, kind)
            process.terminate()

    def _enforce(self, process: TrainerProcess) -> None:
        # A process that said how it ended gets the same grace time to leave as one that was told to.
        if self._kill_at is None:
            if self._stop or self._reported:
                self._kill_at = time.monotonic() + self._settings.grace_secs
        elif time.monotonic() >= self._kill_at:
            process.kill()

    def _wait_secs(self) -> float:
        if self._kill_at is None:
            return self._settings.beat_secs
        return min(self._settings.beat_secs, max(0.05, self._kill_at - time.monotonic()))

    # After the end

    def _outcome(self, exit_code: int) -> Outcome:
        if self._reported is not None:
            is_drained = self._stop is OutcomeKind.DRAINED and self._reported.kind is OutcomeKind.STOPPED
            return self._reported.model_copy(update={"kind": OutcomeKind.DRAINED}) if is_drained else self._reported
        step = self._progress.step if self._progress else None
        if self._stop is OutcomeKind.DRAINED:
            return Outcome(kind=self._stop, message=f"Worker {self._worker} was shut down.", step=step)
        if self._stop is not None:
            return Outcome(kind=self._stop, message="Stopped because the generation ended.", step=step)
        return Outcome(kind=OutcomeKind.KILLED, message=_last_words(exit_code), step=step)

    def _release(self, outcome: Outcome) -> None:
        # As long as it takes: a lease that is lost instead would have the job train again what is done. A worker that
        # shuts down sets an end to it.
        while True:
            try:
                self._store.release(self._job_id, self._generation, self._place, token=self._token, outcome=outcome)
            except (RedisUnavailableError, redis.RedisError) as error:
                if not self._is_redis_away:
                    _logger.warning("%s: waits for Redis to be released: %s", self, error)
                self._is_redis_away = True
                time.sleep(self._settings.beat_secs)
            else:
                return


def _last_words(exit_code: int) -> str:
    """What can be said of a process that ended without reporting an outcome."""
    where = f"on {socket.gethostname()}"
    if exit_code >= 0:
        return f"The training process ended {where} with exit code {exit_code} and without a word; see its log."
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    cause = " Perhaps the system ran out of memory." if -exit_code == signal.SIGKILL else ""
    return f"The training process was killed {where} by {name}.{cause}"
