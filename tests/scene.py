"""A coordinator with all around it: a real Valkey, supervisors played by the test, a clock that the test turns."""

import threading
from dataclasses import dataclass, field

from runner.cluster import Place
from runner.coordinator.coordinator import Coordinator
from runner.coordinator.fences import Fences
from runner.errors import StoreUnavailableError
from runner.jobs.spec import JobSpec
from runner.jobs.state import (
    Claim,
    JobRecord,
    Outcome,
    OutcomeKind,
    Progress,
    Reason,
    Saves,
    Section,
    State,
    WorkerInfo,
)
from runner.jobs.store import JobStore
from runner.settings import Settings

CHIEF, WORKER0, WORKER1 = (Place.parse(text) for text in ("chief:0", "worker:0", "worker:1"))
COMPLETED = Outcome(kind=OutcomeKind.COMPLETED, step=200, metrics={"accuracy": 0.95})
STOPPED = Outcome(kind=OutcomeKind.STOPPED)
KILLED = Outcome(kind=OutcomeKind.KILLED, message="signal 9")


@dataclass
class RecordingDispatcher:
    """Remembers what was sent."""

    sent: list[tuple[str, int, Place, str]] = field(default_factory=list)

    def send(self, job_id: str, generation: int, place: Place, queue: str) -> None:
        self.sent.append((job_id, generation, place, queue))

    def close(self) -> None:
        """Has nothing to close."""

    def places(self) -> list[Place]:
        """The places rung for since the last call."""
        places = [place for _, _, place, _ in self.sent]
        self.sent.clear()
        return places


class Scene:
    """A coordinator, and everything around it that a test may move."""

    def __init__(self, settings: Settings, *, patience_secs: float = 30.0) -> None:
        self.settings = settings
        self.fences: dict[str, int] = {}
        self.asked = self.answered = 0
        self.disk_answers = threading.Event()
        self.outage = ""
        self._patience_secs = patience_secs
        self.store = JobStore(settings)
        self.dispatcher = RecordingDispatcher()
        self.now = 1000.0
        self.silent: set[str] = set()
        self.workers: dict[str, WorkerInfo] = {}
        self.held: dict[tuple[str, int, Place], str] = {}
        self.coordinator = self.start_coordinator()

    def start_coordinator(self) -> Coordinator:
        clock = lambda: self.now  # noqa: E731 - one line for one clock
        fences = Fences(self.read_fence, clock=clock, patience_secs=self._patience_secs)
        coordinator = Coordinator(self.store, self.dispatcher, settings=self.settings, clock=clock, fences=fences)
        coordinator.reconcile()
        return coordinator

    def read_fence(self, model_dir: str) -> int:
        """What the coordinator finds in a model_dir: `fences`, an `outage`, or nothing while a `/slow` disk hangs."""
        self.asked += 1
        if model_dir.startswith("/slow/"):
            self.disk_answers.wait()
        self.answered += 1
        if self.outage:
            raise StoreUnavailableError(self.outage)
        return self.fences.get(model_dir, 0)

    def add_worker(self, worker_id: str, slots: int, queue: str = "default") -> None:
        self.workers[worker_id] = WorkerInfo(id=worker_id, host=worker_id, pid=1, queue=queue, slots=slots)
        self.store.announce(self.workers[worker_id])

    def submit(
        self, name: str = "iris", *, workers: int = 1, priority: int = 0, max_failures: int = 3, disk: str = "/models"
    ) -> str:
        spec = JobSpec(
            entry="iris:experiment",
            model_dir=f"{disk}/{name}",
            workers=workers,
            name=name,
            priority=priority,
            max_failures=max_failures,
        )
        return self.store.submit(spec).id

    def reconcile(self) -> None:
        self.coordinator.reconcile()

    def advance(self, secs: float) -> None:
        """Lets time pass in steps of a second, with everybody beating who is not silent."""
        for _ in range(round(secs)):
            self.now += 1
            for worker in self.workers.values():
                if worker.id not in self.silent:
                    self.store.announce(worker)
            for (job_id, generation, place), token in list(self.held.items()):
                if str(place) not in self.silent:
                    self.store.beat(job_id, generation, place, token=token, progress=None)
            self.reconcile()

    def job(self, job_id: str) -> JobRecord:
        return self.store.job(job_id)

    def claim(self, job_id: str, *places: Place) -> None:
        generation = self.job(job_id).generation
        for port, place in enumerate(places, 2222):
            claim = Claim(token=f"token {place}", worker="a", host="10.0.0.7", port=port, pid=port)
            assert self.store.claim(job_id, generation, place, claim) == ""
            self.held[job_id, generation, place] = claim.token

    def progress(self, job_id: str, place: Place, step: int, saves: Saves | None = None) -> None:
        progress = Progress(section=Section.TRAIN, step=step, loss=0.1, saves=saves)
        generation = self.job(job_id).generation
        self.store.beat(job_id, generation, place, token=f"token {place}", progress=progress)

    def release(self, job_id: str, place: Place, outcome: Outcome) -> None:
        generation = self.job(job_id).generation
        self.store.release(job_id, generation, place, token=f"token {place}", outcome=outcome)
        del self.held[job_id, generation, place]

    def run_to_training(self, *, max_failures: int = 3) -> str:
        """A job with one worker that trains at step 10."""
        self.add_worker("a", 2)
        job_id = self.submit(max_failures=max_failures)
        self.reconcile()
        self.claim(job_id, CHIEF, WORKER0)
        self.reconcile()
        self.progress(job_id, CHIEF, 10)
        self.reconcile()
        assert self.job(job_id).state is State.RUNNING
        return job_id

    def reasons(self, job_id: str) -> list[tuple[State, Reason]]:
        return [(event.state, event.reason) for event in self.store.events(job_id)]
