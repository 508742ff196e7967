"""What the end of a generation means for its job."""

from collections.abc import Mapping
from typing import NamedTuple

from runner.cluster import Place, TaskType
from runner.jobs.state import JobRecord, Outcome, OutcomeKind, Reason, Saves, State, Task, first_cause

__all__ = ["Verdict", "chief_completed", "describe", "first_failure", "judge", "last_saves", "last_step"]

CHIEF = Place(TaskType.CHIEF, 0)

# Another try would end alike, or in a fight with another writer.
_ENDS = {
    OutcomeKind.MODEL_DIR_TAKEN: Reason.MODEL_DIR_TAKEN,
    OutcomeKind.CONFIG_ERROR: Reason.CONFIG_ERROR,
}
_REASONS = {OutcomeKind.LOST: Reason.TASK_LOST, OutcomeKind.PEER_LOST: Reason.TASK_LOST}
_PHRASES = {
    OutcomeKind.MODEL_DIR_TAKEN: "gave way to another writer",
    OutcomeKind.CONFIG_ERROR: "could not be set up",
    OutcomeKind.FAILED: "failed",
    OutcomeKind.KILLED: "was killed",
    OutcomeKind.LOST: "was lost",
    OutcomeKind.DRAINED: "was told to leave by its worker",
    OutcomeKind.PEER_LOST: "lost its peers",
    OutcomeKind.STOPPED: "was stopped",
    OutcomeKind.COMPLETED: "completed",
}


class Verdict(NamedTuple):
    """The state that a job goes to once its generation is over.

    Attributes:
        failures: Of the job, this generation included.
    """

    state: State
    reason: Reason
    message: str
    failures: int


def judge(job: JobRecord, tasks: Mapping[Place, Task]) -> Verdict:
    """Decides how a job goes on, by the first cause of the end of its generation.

    Args:
        job: With the generation in question as its newest.
        tasks: All places of it, none of which is open.
    """
    outcomes = _outcomes(tasks)
    if chief_completed(tasks):
        # The chief publishes and evaluates last, so however a worker ended, the training is there.
        return Verdict(State.SUCCEEDED, Reason.COMPLETED, _completed(outcomes[CHIEF]), job.failures)
    if job.cancel:
        return Verdict(State.CANCELLED, Reason.CANCEL_REQUESTED, "cancelled", job.failures)
    if job.cluster is None and all(outcome.kind is OutcomeKind.STOPPED for outcome in outcomes.values()):
        message = f"only {len(outcomes)} of {len(tasks)} tasks were in place in time; waiting to try again"
        return Verdict(State.PENDING, Reason.RENDEZVOUS_TIMEOUT, message, job.failures)
    place, outcome = first_cause(outcomes)
    return _charge(job, outcome, describe(tasks[place]))


def _charge(job: JobRecord, outcome: Outcome, cause: str) -> Verdict:
    if outcome.kind in _ENDS:
        return Verdict(State.FAILED, _ENDS[outcome.kind], cause, job.failures)
    if outcome.kind is OutcomeKind.DRAINED:
        return Verdict(State.PENDING, Reason.WORKER_DRAINED, cause, job.failures)
    failures = job.failures + 1
    if failures > job.spec.max_failures:
        message = f"{failures} failed generations, with max_failures={job.spec.max_failures}; the last: {cause}"
        return Verdict(State.FAILED, Reason.MAX_FAILURES, message, failures)
    return Verdict(State.RECOVERING, _REASONS.get(outcome.kind, Reason.TASK_FAILED), cause, failures)


def chief_completed(tasks: Mapping[Place, Task]) -> bool:
    """Whether the chief has trained to the last step, published and evaluated."""
    outcome = tasks[CHIEF].outcome
    return outcome is not None and outcome.kind is OutcomeKind.COMPLETED


def first_failure(tasks: Mapping[Place, Task]) -> Task | None:
    """The task that explains why a generation cannot go on; None if it can."""
    ended = {place: o for place, o in _outcomes(tasks).items() if o.kind is not OutcomeKind.COMPLETED}
    return tasks[first_cause(ended)[0]] if ended else None


def describe(task: Task) -> str:
    """How a task ended, in a sentence: "worker:0 on 10.0.0.7 was killed: signal 9"."""
    if task.outcome is None:
        return f"{task.place} has not ended"
    host = f" on {task.claim.host}" if task.claim else ""
    message = f": {task.outcome.message}" if task.outcome.message else ""
    return f"{task.place}{host} {_PHRASES[task.outcome.kind]}{message}"


def last_step(tasks: Mapping[Place, Task]) -> int | None:
    """global_step that the chief reported last in a generation."""
    chief = tasks.get(CHIEF)
    if chief is None:
        return None
    steps = (chief.progress.step, chief.outcome.step if chief.outcome else None)
    return max((step for step in steps if step is not None), default=None)


def last_saves(tasks: Mapping[Place, Task]) -> Saves | None:
    """How saving went in a generation; None if its chief told nothing of it."""
    chief = tasks.get(CHIEF)
    return chief.progress.saves if chief else None


def _outcomes(tasks: Mapping[Place, Task]) -> dict[Place, Outcome]:
    return {place: task.outcome for place, task in tasks.items() if task.outcome}


def _completed(outcome: Outcome) -> str:
    return "completed" if outcome.step is None else f"completed at step {outcome.step}"
