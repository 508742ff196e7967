"""Generations: one attempt of a job, from its first message to the verdict on its end."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from runner.cluster import ClusterSpec, Place
from runner.coordinator.admission import held_slots
from runner.coordinator.dispatch import Dispatcher
from runner.coordinator.leases import LeaseWatch
from runner.coordinator.verdict import CHIEF, chief_completed, describe, first_failure, judge, last_saves, last_step
from runner.jobs.state import JobRecord, Outcome, OutcomeKind, Reason, State, Task
from runner.jobs.store import JobStore
from runner.settings import Settings

__all__ = ["Generations"]

_RING_SECS = 5.0
_BACKOFF_SECS = 5.0
_MAX_BACKOFF_SECS = 120.0

_logger = logging.getLogger(__name__)


@dataclass
class _Attempt:
    """What is remembered of a generation beside Redis; to lose it costs a wait, never correctness."""

    generation: int
    since: float
    rung_at: float | None = None
    completed_at: float | None = None


@dataclass
class _Backoff:
    timeouts: int = 0
    until: float = 0.0


class Generations:
    """Drives the generations of all jobs. Every step is decided from the store alone, so a restart goes on anywhere.

    Args:
        store: The truth.
        dispatcher: Rings for unclaimed places.
        settings: Time limits.
        leases: Tells lost tasks from live ones.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        store: JobStore,
        dispatcher: Dispatcher,
        *,
        settings: Settings,
        leases: LeaseWatch,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._leases = leases
        self._clock = clock
        self._attempts: dict[str, _Attempt] = {}
        self._backoffs: dict[str, _Backoff] = {}

    def may_begin(self, job: JobRecord) -> bool:
        """Whether a job whose last gang did not come together has waited long enough."""
        return job.id not in self._backoffs or self._clock() >= self._backoffs[job.id].until

    def begin(self, epoch: int, job: JobRecord, *, fence: int) -> None:
        """Begins the next generation of a job that was admitted, and rings for all of its places.

        Args:
            epoch: Of the leader.
            job: Waiting.
            fence: The generation that its model_dir has reached, which may be another job's, or another Redis's.
        """
        if self._store.begin_generation(epoch, job, fence=fence) is not None:
            self.advance(epoch, self._store.job(job.id))

    def advance(self, epoch: int, job: JobRecord) -> int:
        """Takes a generation as far as it can go now.

        Returns:
            How many slots it still holds.
        """
        tasks = self._reap(epoch, job)
        if why := self._why_close(job, tasks):
            self._store.close_generation(epoch, job)
            self._say(epoch, job, job.state, job.reason, why)
            # A place that was claimed just before the generation was closed has a lease to wait for.
            job = self._store.job(job.id)
            tasks = self._store.tasks(job)
        if job.cancel and job.state is not State.DRAINING:
            self._say(epoch, job, State.DRAINING, Reason.CANCEL_REQUESTED, "stopping its tasks")
            job = self._store.job(job.id)
        if _is_over(job, tasks):
            self._settle(epoch, job, tasks)
            return 0
        if not job.closing:
            self._bring_up(epoch, job, tasks)
        return held_slots(job, tasks)

    def forget(self) -> None:
        """Restarts all limits: Redis was away, and the tasks could not have kept them."""
        self._attempts.clear()

    def prune(self, active: Collection[str]) -> None:
        """Forgets the jobs that have ended."""
        for memory in (self._attempts, self._backoffs):
            for job_id in memory.keys() - set(active):
                del memory[job_id]

    def _reap(self, epoch: int, job: JobRecord) -> dict[Place, Task]:
        """The tasks of the generation, after those whose lease is lost were ended."""
        tasks = self._store.tasks(job)
        lost = [task for task in tasks.values() if task.is_open and self._is_lost(job, task)]
        for task in lost:
            message = f"no sign of life for {self._settings.lease_secs:g} s"
            self._store.end_task(epoch, job, task.place, Outcome(kind=OutcomeKind.LOST, message=message))
            _logger.warning("Job %s, generation %d: %s is lost.", job.id, job.generation, task.place)
            if task.claim:
                # Its slots are probably gone with it, though its own counter has not stood still for long enough yet.
                self._leases.doubt(worker_lease(task.claim.worker))
        return self._store.tasks(job) if lost else tasks

    def _is_lost(self, job: JobRecord, task: Task) -> bool:
        return self._leases.observe(f"task {job.id} {job.generation} {task.place}", task.lease)

    def _why_close(self, job: JobRecord, tasks: Mapping[Place, Task]) -> str:
        """Why a generation that is not closing yet cannot go on; "" if it can."""
        attempt, now = self._attempt(job), self._clock()
        if job.closing:
            return ""
        if job.cancel:
            return "cancel requested; stopping its tasks"
        if chief_completed(tasks):
            attempt.completed_at = now if attempt.completed_at is None else attempt.completed_at
            late = now - attempt.completed_at >= self._settings.grace_secs
            return "the chief completed; stopping the other tasks" if late else ""
        if cause := first_failure(tasks):
            return f"{describe(cause)}; stopping the other tasks"
        if job.cluster is None and now - attempt.since >= self._settings.rendezvous_secs:
            claimed = sum(task.claim is not None for task in tasks.values())
            return f"only {claimed} of {len(tasks)} tasks are in place; stopping them to try again"
        return ""

    def _attempt(self, job: JobRecord) -> _Attempt:
        attempt = self._attempts.get(job.id)
        if attempt is None or attempt.generation != job.generation:
            attempt = self._attempts[job.id] = _Attempt(job.generation, self._clock())
        return attempt

    def _bring_up(self, epoch: int, job: JobRecord, tasks: Mapping[Place, Task]) -> None:
        """Rings, seals, and says that training began: whichever comes next."""
        unclaimed = [place for place, task in tasks.items() if task.claim is None]
        if job.cluster is None:
            state = State.STARTING if job.state is State.PENDING else job.state
            self._say(epoch, job, state, Reason.ADMITTED, f"starting {len(tasks)} task{'s' if len(tasks) > 1 else ''}")
        if unclaimed:
            self._ring(job, unclaimed)
        elif job.cluster is None:
            self._store.seal(epoch, job, _cluster(tasks))
            self._backoffs.pop(job.id, None)
        elif tasks[CHIEF].progress.step is not None:
            saves = last_saves(tasks)
            reason = Reason.SAVE_FAILED if saves and saves.error else Reason.TRAINING
            message = f"training; {saves.error}" if saves and saves.error else "training"
            self._say(epoch, job, State.RUNNING, reason, message)

    def _ring(self, job: JobRecord, places: Collection[Place]) -> None:
        attempt, now = self._attempt(job), self._clock()
        if attempt.rung_at is not None and now - attempt.rung_at < _RING_SECS:
            return
        for place in places:
            self._dispatcher.send(job.id, job.generation, place, job.spec.queue)
        attempt.rung_at = now

    def _settle(self, epoch: int, job: JobRecord, tasks: Mapping[Place, Task]) -> None:
        verdict = judge(job, tasks)
        step = last_step(tasks)
        fields: dict[str, Any] = {
            "settled": job.generation,
            "failures": verdict.failures,
            "step": job.step if step is None else step,
        }
        if saves := last_saves(tasks):
            fields["saves"] = saves.after(job.saves)
        if verdict.state is State.SUCCEEDED and (outcome := tasks[CHIEF].outcome):
            fields["metrics"] = outcome.metrics
        if verdict.reason is Reason.RENDEZVOUS_TIMEOUT:
            self._back_off(job)
        self._say(epoch, job, verdict.state, verdict.reason, verdict.message, **fields)

    def _back_off(self, job: JobRecord) -> None:
        backoff = self._backoffs.setdefault(job.id, _Backoff())
        backoff.until = self._clock() + min(_MAX_BACKOFF_SECS, _BACKOFF_SECS * 2**backoff.timeouts)
        backoff.timeouts += 1

    def _say(self, epoch: int, job: JobRecord, state: State, reason: Reason, message: str, **fields: Any) -> None:
        if fields or (state, reason, message) != (job.state, job.reason, job.message):
            self._store.transition(epoch, job, state, reason, message, **fields)
            _logger.info("Job %s, generation %d: %s (%s), %s.", job.id, job.generation, state, reason, message)


def worker_lease(worker_id: str) -> str:
    """The name under which a worker's counter is watched."""
    return f"worker {worker_id}"


def _is_over(job: JobRecord, tasks: Mapping[Place, Task]) -> bool:
    # The claim of a place that nobody holds is refused once the generation is closing, so it need not be waited for.
    if job.closing:
        return not any(task.is_open for task in tasks.values())
    return all(task.outcome for task in tasks.values())


def _cluster(tasks: Mapping[Place, Task]) -> ClusterSpec:
    cluster: ClusterSpec = {}
    for place, task in sorted(tasks.items()):
        assert task.claim is not None
        cluster.setdefault(str(place.task_type), []).append(f"{task.claim.host}:{task.claim.port}")
    return cluster
