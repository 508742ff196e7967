"""The coordinator: compares what should run with what does, and makes up the difference."""

import logging
import threading
import time
from collections.abc import Callable

from runner.coordinator.admission import FreeSlots
from runner.coordinator.dispatch import Dispatcher
from runner.coordinator.fences import Fences, read_fence
from runner.coordinator.generations import Generations, worker_lease
from runner.coordinator.leases import LeaseWatch
from runner.errors import RedisUnavailableError, StaleEpochError
from runner.jobs.state import JobRecord, Reason, State, WorkerInfo
from runner.jobs.store import JobStore
from runner.settings import Settings

__all__ = ["Coordinator"]

_POLL_SECS = 0.5
_MAX_BACKOFF_SECS = 5.0

_logger = logging.getLogger(__name__)


class Coordinator:
    """Admits jobs, starts their generations, and judges how they end. One leads at a time: the one started last.

    It keeps nothing but what it has seen of leases and when it rang last, so it can be stopped and started at will.

    Args:
        store: The truth about jobs.
        dispatcher: Rings for places.
        settings: Time limits.
        clock: Monotonic time in seconds.
        fences: Reads the generation that a model_dir has reached.
    """

    def __init__(
        self,
        store: JobStore,
        dispatcher: Dispatcher,
        *,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        fences: Fences | None = None,
    ) -> None:
        self._store = store
        self._leases = LeaseWatch(settings.lease_secs, clock=clock)
        self._generations = Generations(store, dispatcher, settings=settings, leases=self._leases, clock=clock)
        self._fences = fences or Fences(read_fence, clock=clock)
        self._epoch: int | None = None
        self._doubtful: list[WorkerInfo] = []

    def run(self, stop: threading.Event) -> None:
        """Works until it is told to stop, or until a newer coordinator takes over; outlives outages of Redis."""
        wakes = self._store.wakes()
        outages = 0
        while not stop.is_set():
            try:
                self.reconcile()
                if outages:
                    _logger.warning("Redis is back; all leases are watched anew.")
                outages = 0
                wakes.wait(_POLL_SECS)
            except StaleEpochError:
                _logger.warning("A newer coordinator has taken over; this one stops.")
                break
            except RedisUnavailableError as error:
                if not outages:
                    _logger.warning("Waiting for Redis, and then going on. %s", error)
                outages += 1
                wakes.close()
                stop.wait(min(_MAX_BACKOFF_SECS, _POLL_SECS * 2 ** min(outages, 10)))
        wakes.close()

    def reconcile(self) -> None:
        """One pass over all jobs that have not ended; the first one makes this coordinator the leader.

        Raises:
            StaleEpochError: A newer coordinator leads.
            RedisUnavailableError: What was seen of leases is forgotten; to be called again.
        """
        try:
            self._pass(self._lead())
        except RedisUnavailableError:
            self._leases.reset()
            raise

    def _lead(self) -> int:
        if self._epoch is not None and (epoch := self._store.epoch()) < self._epoch:
            _logger.error("Redis has lost its data (leader epoch %d after %d); leading again.", epoch, self._epoch)
            self._epoch = None
        if self._epoch is None:
            self._epoch = self._store.take_over()
            _logger.info("This coordinator leads, with epoch %d.", self._epoch)
        self._store.check_epoch(self._epoch)
        return self._epoch

    def _pass(self, epoch: int) -> None:
        if not self._leases.begin():
            self._generations.forget()
        self._fences.begin()
        slots = FreeSlots(self._live_workers(), doubtful=self._doubtful)
        jobs = self._store.active_jobs()
        for job in jobs:
            if not job.is_waiting:
                slots.hold(job.spec.queue, self._generations.advance(epoch, job))
        for job in jobs:
            if job.is_waiting:
                self._admit(epoch, job, slots)
        for memory in (self._generations, self._fences):
            memory.prune({job.id for job in jobs})
        self._leases.end()

    def _live_workers(self) -> list[WorkerInfo]:
        workers = self._store.workers()
        lost = {worker.id for worker in workers if self._leases.observe(worker_lease(worker.id), worker.beat)}
        for worker in workers:
            if worker.id in lost:
                _logger.warning("Worker %s on %s is lost.", worker.id, worker.host)
                self._store.withdraw(worker.id)
        workers = [worker for worker in workers if worker.id not in lost]
        live = [worker for worker in workers if self._leases.is_live(worker_lease(worker.id))]
        self._doubtful = [worker for worker in workers if worker not in live]
        return live

    def _admit(self, epoch: int, job: JobRecord, slots: FreeSlots) -> None:
        if job.cancel:
            self._store.transition(epoch, job, State.CANCELLED, Reason.CANCEL_REQUESTED, "cancelled")
        elif self._generations.may_begin(job):
            # Asked before the slots, which a job whose model_dir cannot be reached leaves to the others.
            if problem := self._fences.problem(job.id, job.spec.model_dir):
                self._wait(epoch, job, Reason.WAITING_FOR_MODEL_DIR, problem)
            elif not (wanting := slots.take(job)):
                if (fence := self._fences.generation(job.id, job.spec.model_dir)) is not None:
                    self._generations.begin(epoch, job, fence=fence)
            # Before the first beats of the workers are seen, what is missing is not known.
            elif not self._doubtful:
                self._wait(epoch, job, Reason.WAITING_FOR_SLOTS, wanting)

    def _wait(self, epoch: int, job: JobRecord, reason: Reason, message: str) -> None:
        if message != job.message:
            self._store.transition(epoch, job, job.state, reason, message)
            _logger.info("Job %s: %s (%s), %s.", job.id, job.state, reason, message)
