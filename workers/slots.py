"""Slots: the training processes that one Celery worker may run at a time, from its start to its shutdown."""

import logging
import os
import queue
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from runner.cluster import Place
from runner.errors import RedisUnavailableError, SettingsError
from runner.jobs.state import WorkerInfo
from runner.jobs.store import JobStore
from runner.settings import Settings
from runner.storage.private import is_private
from workers.presence import Presence
from workers.supervisor import TRAINER_COMMAND, Supervisor

__all__ = ["Slots"]

_EXIT_SECS = 10.0
_WITHDRAW_SECS = 2.0
_EXIT_CODE = 1

_logger = logging.getLogger(__name__)


class Slots:
    """Runs a supervisor for each task that Celery hands over, and ends all of them when the worker shuts down.

    Args:
        settings: Of this installation.
        queue_name: The queue that the worker serves.
        count: How many tasks it runs at a time.
        environ: Environment of the training processes.
        command: Starts a training process.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        queue_name: str,
        count: int,
        environ: Mapping[str, str],
        command: Sequence[str] = TRAINER_COMMAND,
    ) -> None:
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._settings = settings
        self._queue_name = queue_name
        self._count = count
        self._environ = environ
        self._command = command
        self._cache_dir = _cache_dir(settings)
        self._store = JobStore(settings)
        self._presence: Presence | None = None
        self._lock = threading.Lock()
        self._supervisors: set[Supervisor] = set()
        self._is_draining = False
        self._drains: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._drainer = threading.Thread(target=self._drain, name="drain", daemon=True)
        self._drainer.start()

    def announce(self) -> None:
        """Begins to tell the coordinator that the slots are there."""
        self._presence = Presence(self._store, self._info, period_secs=2 * self._settings.beat_secs)

    def run(self, job_id: str, generation: int, place: Place) -> None:
        """Runs one task to its end; returns at once if its place is taken or the worker is shutting down."""
        supervisor = Supervisor(
            self._store,
            self._settings,
            job_id=job_id,
            generation=generation,
            place=place,
            worker=self.worker_id,
            cache_dir=self._cache_dir,
            environ=self._environ,
            command=self._command,
        )
        with self._lock:
            if self._is_draining:
                _logger.info("%s: left to another worker, this one is shutting down.", supervisor)
                return
            self._supervisors.add(supervisor)
        try:
            supervisor.run()
        except RedisUnavailableError as error:
            # Nothing was claimed, so the coordinator will ring again.
            _logger.warning("%s: not begun: %s", supervisor, error)
        finally:
            with self._lock:
                self._supervisors.discard(supervisor)

    def drain(self) -> None:
        """Ends all training processes as DRAINED, and this process soon after, whatever Celery does.

        Returns at once. May be called from a signal handler, and more than once.
        """
        # The one thing that a signal handler may do: it can interrupt a holder of any lock, and this takes none.
        self._drains.put(None)

    def close(self) -> None:
        """Drains, and returns when the worker is withdrawn and all training processes are told to end."""
        self.drain()
        self._drainer.join()

    def _drain(self) -> None:
        self._drains.get()
        deadline_secs = self._settings.grace_secs + _EXIT_SECS
        timer = threading.Timer(deadline_secs, self._exit, [deadline_secs])
        timer.daemon = True
        timer.start()
        with self._lock:
            self._is_draining = True
            supervisors = list(self._supervisors)
        _logger.info("Shutting down: %d training processes have to end.", len(supervisors))
        # First of all, so that the coordinator does not give the places that become free to this worker again.
        if self._presence is not None:
            self._presence.close(timeout_secs=_WITHDRAW_SECS)
        for supervisor in supervisors:
            supervisor.drain()

    def _exit(self, deadline_secs: float) -> None:
        # Celery waits for its tasks and its broker without a limit, and whoever sent the TERM will not.
        _logger.error("The worker did not shut down within %.0f seconds and is ended.", deadline_secs)
        with self._lock:
            supervisors = list(self._supervisors)
        for supervisor in supervisors:
            supervisor.kill()
        os._exit(_EXIT_CODE)

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            id=self.worker_id,
            host=self._settings.host or self._store.source_address(),
            pid=os.getpid(),
            queue=self._queue_name,
            slots=self._count,
        )


def _cache_dir(settings: Settings) -> Path:
    """Where code snapshots are unpacked: private to the user, since what lies there is run."""
    home = Path.home() / ".cache" / "runner" / "code"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:  # a user without a home, as in many containers
        settings.runtime_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_private(settings.runtime_dir):
            raise SettingsError(
                f"{settings.runtime_dir} is not private to this user, and code in it would be run. "
                "Remove it, or `chmod 700` it."
            ) from None
        return settings.runtime_dir / "code"
    return home
