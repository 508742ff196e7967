"""The states of a job, why it is in one, and what is recorded of its tasks."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, NamedTuple, Self

from pydantic import BeforeValidator, Field, PlainSerializer

from runner.cluster import ClusterSpec, Place
from runner.jobs.spec import JobSpec, Model

__all__ = [
    "Beat",
    "Claim",
    "Event",
    "JobRecord",
    "LogLine",
    "Outcome",
    "OutcomeKind",
    "Progress",
    "Reason",
    "Saves",
    "Section",
    "State",
    "Task",
    "WorkerInfo",
    "first_cause",
]

PlaceField = Annotated[
    Place, BeforeValidator(lambda value: Place.parse(value) if isinstance(value, str) else value), PlainSerializer(str)
]


class State(StrEnum):
    """PENDING -> STARTING -> RUNNING <-> RECOVERING, DRAINING, and three terminal ones."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    RECOVERING = "RECOVERING"
    DRAINING = "DRAINING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether a job in this state never changes again."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Reason(StrEnum):
    """Why a job is in its state; stable codes for programs, beside a sentence for people."""

    SUBMITTED = "SUBMITTED"
    WAITING_FOR_SLOTS = "WAITING_FOR_SLOTS"
    WAITING_FOR_MODEL_DIR = "WAITING_FOR_MODEL_DIR"
    ADMITTED = "ADMITTED"
    TRAINING = "TRAINING"
    RENDEZVOUS_TIMEOUT = "RENDEZVOUS_TIMEOUT"
    TASK_FAILED = "TASK_FAILED"
    TASK_LOST = "TASK_LOST"
    WORKER_DRAINED = "WORKER_DRAINED"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    SAVE_FAILED = "SAVE_FAILED"
    COMPLETED = "COMPLETED"
    MODEL_DIR_TAKEN = "MODEL_DIR_TAKEN"
    CONFIG_ERROR = "CONFIG_ERROR"
    MAX_FAILURES = "MAX_FAILURES"


class Section(StrEnum):
    """What a training process is busy with."""

    STARTUP = "startup"
    FIRST_STEP = "first_step"
    TRAIN = "train"
    EVAL = "eval"
    CHECKPOINT = "checkpoint"
    """Waits for the last save of the training, into a local model_dir; or"""
    UPLOAD = "upload"
    """into one on an object store."""


class OutcomeKind(StrEnum):
    """How a task ended. The order is the order in which a cause is charged: a victim never hides its killer."""

    MODEL_DIR_TAKEN = "model_dir_taken"
    """Somebody else writes into the model_dir: another job, from another Redis perhaps, or a train() without one."""
    CONFIG_ERROR = "config_error"
    """The job could not be set up: unknown entry, an import that raises, an invalid experiment."""
    FAILED = "failed"
    """The user's code, or training, raised."""
    KILLED = "killed"
    """The training process ended without a word: a signal, or the system ran out of memory."""
    LOST = "lost"
    """The lease was lost: its machine or its supervisor is gone. Written by the coordinator; or by a task that found a
    later generation of its own job in the model_dir, so that it is what the coordinator took it for."""
    DRAINED = "drained"
    """The worker was told to shut down."""
    PEER_LOST = "peer_lost"
    """A collective failed because another task is gone: a victim."""
    STOPPED = "stopped"
    """Told to stop because the generation is closing."""
    COMPLETED = "completed"
    """Trained to the last step."""


class Saves(Model):
    """How the saving of checkpoints goes, as the chief of a generation tells it.

    Attributes:
        step: global_step of the newest checkpoint that this generation published; None before the first.
        time: When; UTC, RFC 3339.
        error: Why the newest save failed, which is tried again at the next one that is due; "" if it did not fail.
    """

    step: int | None = None
    time: str | None = None
    error: str = ""

    def after(self, before: Self) -> Self:
        """The same, with the newest checkpoint of the generations before as long as this one has published none."""
        return self if self.step is not None else self.model_copy(update={"step": before.step, "time": before.time})


class Progress(Model):
    """The newest sign of life of a training process.

    Attributes:
        section: What it is busy with.
        step: global_step after the last completed step; None before the first.
        loss: Mean loss over the replicas at that step.
        steps_per_sec: Since the report before.
        saves: Of the chief, once there was one.
    """

    section: Section = Section.STARTUP
    step: int | None = None
    loss: float | None = None
    steps_per_sec: float | None = None
    saves: Saves | None = None


class Outcome(Model):
    """How a task ended, with what a person needs to know."""

    kind: OutcomeKind
    message: str = ""
    step: int | None = None
    metrics: dict[str, float] | None = None


class Claim(Model):
    """A place taken by a supervisor: who holds it, and where its training process listens.

    Attributes:
        token: Random; the lease of the place is renewed and released with it.
        worker: Id of the Celery worker.
        host: Address told to the peers.
        port: Port of the TensorFlow server.
        pid: Process id of the training process on its host.
    """

    token: str
    worker: str
    host: str
    port: int
    pid: int


class Task(Model):
    """One place of a generation as the store knows it."""

    place: PlaceField
    claim: Claim | None = None
    lease: int = 0
    progress: Progress = Field(default_factory=Progress)
    outcome: Outcome | None = None

    @property
    def is_open(self) -> bool:
        """Claimed and not ended: somebody holds the lease."""
        return self.claim is not None and self.outcome is None


class Beat(NamedTuple):
    """What a supervisor learns when it renews its lease.

    Attributes:
        held: The lease is still its own.
        closing: The training process is to be stopped.
        cluster: Addresses of all tasks once the roster is sealed; None before.
    """

    held: bool
    closing: bool
    cluster: ClusterSpec | None


class LogLine(NamedTuple):
    """One line that a training process wrote. `id` orders the lines and is the place to read on from."""

    id: str
    generation: int
    place: Place
    line: str


class Event(Model):
    """One change of a job's state. `time` is UTC, RFC 3339."""

    time: str
    state: State
    reason: Reason
    message: str
    generation: int


class JobRecord(Model):
    """All that is recorded of a job, without its tasks and logs. Times are UTC, RFC 3339.

    Attributes:
        reserved: Real path of the model_dir, which no other job may use until this one has ended.
        generation: Number of the newest attempt; 0 before the first. Above that of all writers of its model_dir.
        failures: Generations that ended in a failure.
        cancel: Somebody asked to cancel the job.
        settled: The newest generation that is over: all its leases released or lost, and its end judged.
        closing: The newest generation is being ended; no next one until all its leases are released or lost.
        step: global_step that the settled generations reached; None if none reported one.
        cluster: Addresses of the sealed generation; None before.
        metrics: Of the evaluation after training, if there was one.
        saves: As the settled generations left them.
    """

    id: str
    spec: JobSpec
    reserved: str
    state: State
    reason: Reason
    message: str
    generation: int = 0
    settled: int = 0
    failures: int = 0
    cancel: bool = False
    closing: bool = False
    cluster: ClusterSpec | None = None
    step: int | None = None
    metrics: dict[str, float] | None = None
    saves: Saves = Field(default_factory=Saves)
    submitted_at: str
    started_at: str | None = None
    ended_at: str | None = None

    @property
    def is_waiting(self) -> bool:
        """Between two generations, or before the first: nothing runs and nothing may hold a lease."""
        return not self.state.is_terminal and self.settled == self.generation


class WorkerInfo(Model):
    """One Celery worker that offers slots.

    Attributes:
        id: Unique name of the worker.
        queue: The queue it serves.
        slots: Training processes it can run at a time.
        beat: Counter that the worker increments; see leases.
    """

    id: str
    host: str
    pid: int
    queue: str
    slots: int
    beat: int = 0


def first_cause(outcomes: Mapping[Place, Outcome]) -> tuple[Place, Outcome]:
    """The task whose end explains the end of its generation: the gravest kind, then the lowest place.

    Args:
        outcomes: At least one.
    """
    order = list(OutcomeKind)
    return min(outcomes.items(), key=lambda item: (order.index(item[1].kind), item[0].task_type, item[0].index))
