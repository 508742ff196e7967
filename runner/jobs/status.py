"""JobStatus: a job as a person or a script sees it."""

from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import JsonValue

from runner.cluster import Place, TaskType
from runner.errors import JobCancelledError, JobFailedError
from runner.jobs.spec import Model
from runner.jobs.state import Event, JobRecord, PlaceField, Reason, Saves, Section, State, Task

__all__ = ["JobStatus", "TaskStatus"]

_WAITING = "waiting"


class TaskStatus(Model):
    """One task of the newest generation.

    Attributes:
        state: "waiting" for a slot, what it is busy with ("startup", "first_step", "train", "eval", "checkpoint",
            "upload"), or how it ended ("completed", "failed", "killed", "lost", "drained", "peer_lost", "stopped",
            "config_error", "model_dir_taken").
        worker: Id of the Celery worker that runs it; None while it waits.
        pid: Of the training process, on `host`.
        message: What there is to say about its end.
    """

    place: PlaceField
    state: str
    worker: str | None = None
    host: str | None = None
    pid: int | None = None
    section: Section | None = None
    step: int | None = None
    loss: float | None = None
    steps_per_sec: float | None = None
    message: str = ""

    @classmethod
    def of(cls, task: Task) -> Self:
        """What the store knows of a task, for people."""
        claim, outcome, progress = task.claim, task.outcome, task.progress
        if claim is None:
            return cls(place=task.place, state=_WAITING if outcome is None else str(outcome.kind))
        return cls(
            place=task.place,
            state=str(outcome.kind if outcome else progress.section),
            worker=claim.worker,
            host=claim.host,
            pid=claim.pid,
            section=progress.section,
            step=progress.step if outcome is None or outcome.step is None else outcome.step,
            loss=progress.loss,
            steps_per_sec=progress.steps_per_sec,
            message=outcome.message if outcome else "",
        )


class JobStatus(Model):
    """A job at one moment. Times are UTC, RFC 3339.

    Attributes:
        reason: Stable code for why the job is in its state; `message` says it for a person.
        generation: Number of the newest attempt; 0 before the first.
        failures: Generations that ended in a failure; more than `max_failures` end the job.
        cancel: Somebody asked to cancel the job.
        has_coordinator: A coordinator showed a sign of life lately; without one the job stays as it is.
        step: global_step of the chief, or the last one known.
        loss: Mean over the replicas, at the chief's last report.
        metrics: Of the evaluation after training.
        saves: The newest checkpoint that the job published, and what is wrong with the saves since.
        tasks: Of the newest generation, the chief first.
        events: Every change of state, oldest first.
    """

    id: str
    entry: str
    params: dict[str, JsonValue]
    model_dir: str
    workers: int
    queue: str
    priority: int
    state: State
    reason: Reason
    message: str
    generation: int
    failures: int
    max_failures: int
    cancel: bool
    has_coordinator: bool
    step: int | None
    loss: float | None
    steps_per_sec: float | None
    metrics: dict[str, float] | None
    saves: Saves
    submitted_at: str
    started_at: str | None
    ended_at: str | None
    tasks: tuple[TaskStatus, ...]
    events: tuple[Event, ...]

    @classmethod
    def of(cls, job: JobRecord, tasks: Mapping[Place, Task], events: Iterable[Event], *, has_coordinator: bool) -> Self:
        """Puts together what the store knows of a job."""
        shown = tuple(TaskStatus.of(task) for task in tasks.values())
        chief = next((task for task in shown if task.place.task_type is TaskType.CHIEF), None)
        spec = job.spec.model_dump(include={"entry", "params", "model_dir", "workers", "queue", "priority"})
        record = job.model_dump(exclude={"spec", "reserved", "settled", "closing", "cluster", "step", "saves"})
        saves = next((task.progress.saves for task in tasks.values() if task.progress.saves), None)
        return cls(
            **spec,
            **record,
            max_failures=job.spec.max_failures,
            has_coordinator=has_coordinator,
            step=job.step if chief is None or chief.step is None else chief.step,
            loss=chief.loss if chief else None,
            steps_per_sec=chief.steps_per_sec if chief else None,
            saves=saves.after(job.saves) if saves else job.saves,
            tasks=shown,
            events=tuple(events),
        )

    def raise_for_status(self) -> None:
        """Raises if the job ended without success; does nothing while it goes on.

        Raises:
            JobFailedError: It is FAILED.
            JobCancelledError: It is CANCELLED.
        """
        if self.state is State.FAILED:
            raise JobFailedError(f"Job {self.id} failed ({self.reason}): {self.message}")
        if self.state is State.CANCELLED:
            raise JobCancelledError(f"Job {self.id} was cancelled ({self.reason}): {self.message}")
