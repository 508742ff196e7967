"""JobStore: the truth about jobs, in Redis. `runner.jobs.fields` lists its keys."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import redis

from runner.cluster import ClusterSpec, Place
from runner.errors import JobNotFoundError, JobSpecError, ModelDirInUseError, StaleEpochError
from runner.jobs import scripts
from runner.jobs.fields import (
    encode,
    events_key,
    flat,
    job_fields,
    job_key,
    logs_key,
    parse_job,
    parse_task,
    rfc3339,
    tasks_key,
    utc_now,
)
from runner.jobs.redis import connect, redis_errors
from runner.jobs.spec import JobSpec, is_job_id, job_id
from runner.jobs.state import (
    Beat,
    Claim,
    Event,
    JobRecord,
    LogLine,
    Outcome,
    Progress,
    Reason,
    State,
    Task,
    WorkerInfo,
)
from runner.jobs.wakes import WAKE_CHANNEL, Wakes
from runner.settings import Settings
from runner.storage.urls import real_path

__all__ = ["JobStore", "in_use"]

_MAX_LOG_LINES = 20_000
_LEADER_MILLISECS = 10_000

_logger = logging.getLogger(__name__)


def in_use(model_dir: str, holder: str) -> ModelDirInUseError:
    """The error for a second job on a model_dir."""
    return ModelDirInUseError(
        f"{model_dir} is in use by job {holder}. Wait for it, cancel it with `runner cancel {holder}`, "
        "or choose another model_dir."
    )


class JobStore:
    """Jobs, generations, leases, workers and logs. Thread-safe.

    Every method raises RedisUnavailableError while Redis does not answer. Methods that take an `epoch` may be called by
    a coordinator only, and raise StaleEpochError once a newer one has started.

    Args:
        settings: Where Redis is.
        now: Clock for the recorded times.
    """

    def __init__(self, settings: Settings, *, now: Callable[[], datetime] = utc_now) -> None:
        self._settings = settings
        self._redis = connect(settings)
        self._now = now
        self._unreadable: set[str] = set()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with redis_errors(self._settings):
                yield
        except redis.ResponseError as error:
            if "STALE_EPOCH" in str(error):
                raise StaleEpochError(
                    "A newer coordinator has taken over; this one must not write any more."
                ) from error
            raise

    def _script(self, script: str, keys: Iterable[str], *arguments: str | int | float) -> Any:
        with self._errors():
            return self._redis.eval(script, len(keys := list(keys)), *keys, *map(str, arguments))

    def ping(self) -> None:
        """Raises RedisUnavailableError unless Redis answers."""
        with self._errors():
            self._redis.ping()

    def close(self) -> None:
        """Closes the connections; the store can still be used, and connects again."""
        self._redis.close()

    def source_address(self) -> str:
        """The address of this host that Redis sees; loopback over a unix socket."""
        with self._errors():
            address: str = self._redis.client_info()["addr"]
        host = address.rpartition(":")[0].strip("[]")
        return "127.0.0.1" if not host or "/" in host else host

    # Jobs

    def submit(self, spec: JobSpec) -> JobRecord:
        """Records a new PENDING job.

        Raises:
            ModelDirInUseError: A job that has not ended uses the same model_dir.
        """
        now = self._now()
        job = JobRecord(
            id=job_id(spec.name),
            spec=spec,
            reserved=real_path(spec.model_dir),
            state=State.PENDING,
            reason=Reason.SUBMITTED,
            message="submitted",
            submitted_at=rfc3339(now),
        )
        event = Event(
            time=rfc3339(now), state=job.state, reason=job.reason, message=job.message, generation=job.generation
        )
        holder = self._script(
            scripts.SUBMIT,
            [job_key(job.id), events_key(job.id)],
            job.id,
            job.reserved,
            event.model_dump_json(),
            *flat(job_fields(job)),
        )
        if holder:
            raise in_use(spec.model_dir, holder)
        return job

    def holder(self, model_dir: str) -> str | None:
        """Id of the job that uses a model_dir and has not ended; None if it is free."""
        with self._errors():
            holder: str | None = self._redis.hget("runner:model_dirs", real_path(model_dir))
        return holder

    def job(self, job_id: str) -> JobRecord:
        """The job with that id.

        Raises:
            JobNotFoundError: There is none.
            JobSpecError: Another version wrote it.
        """
        with self._errors():
            fields = self._redis.hgetall(job_key(job_id)) if is_job_id(job_id) else {}
        if not fields:
            raise JobNotFoundError(f"No job {job_id!r}; `runner list` shows the jobs there are.")
        return parse_job(job_id, fields)

    def jobs(self) -> list[JobRecord]:
        """All jobs that can be read, oldest first."""
        with self._errors():
            return self._read_jobs(self._redis.zrange("runner:jobs", 0, -1))

    def active_jobs(self) -> list[JobRecord]:
        """The jobs that have not ended, as `jobs` reads them, in order of admission: by priority, then oldest first."""
        with self._errors():
            jobs = self._read_jobs(self._redis.zrange("runner:active", 0, -1))
        return sorted(jobs, key=lambda job: -job.spec.priority)

    def _read_jobs(self, ids: Iterable[str]) -> list[JobRecord]:
        ids = list(ids)
        with self._redis.pipeline(transaction=False) as pipeline:
            for id_ in ids:
                pipeline.hgetall(job_key(id_))
            found = [(id_, fields) for id_, fields in zip(ids, pipeline.execute(), strict=True) if fields]
        jobs = []
        for id_, fields in found:
            try:
                jobs.append(parse_job(id_, fields))
            except JobSpecError as error:
                # One that cannot be read must not keep the others from being run.
                if id_ not in self._unreadable:
                    _logger.error("%s It is left alone.", error)  # noqa: TRY400 - the message says it all
                self._unreadable.add(id_)
        return jobs

    def request_cancel(self, job_id: str) -> JobRecord:
        """Asks the coordinator to end the job; idempotent, and of no effect on a job that has ended.

        Raises:
            JobNotFoundError: There is no such job.
        """
        job = self.job(job_id)
        if not job.state.is_terminal:
            with self._errors():
                self._redis.hset(job_key(job_id), "cancel", "1")
                self._redis.publish(WAKE_CHANNEL, job_id)
        return self.job(job_id)

    def events(self, job_id: str) -> list[Event]:
        """The changes of the job's state, oldest first; of more than 1000 the newest."""
        with self._errors():
            return [Event.model_validate_json(text) for text in self._redis.lrange(events_key(job_id), 0, -1)]

    # Tasks

    def tasks(self, job: JobRecord) -> dict[Place, Task]:
        """All places of the newest generation, claimed or not; none before the first."""
        with self._errors():
            fields = self._redis.hgetall(tasks_key(job.id, job.generation))
        return {place: parse_task(place, fields) for place in (job.spec.roster if job.generation else ())}

    def claim(self, job_id: str, generation: int, place: Place, claim: Claim) -> str:
        """Takes a place for a supervisor.

        Returns:
            "" if the place is now held; otherwise why not, and the caller has nothing to do.
        """
        refusal: str = self._script(
            scripts.CLAIM,
            [job_key(job_id), tasks_key(job_id, generation)],
            generation,
            str(place),
            claim.model_dump_json(),
        )
        return refusal

    def beat(self, job_id: str, generation: int, place: Place, *, token: str, progress: Progress | None) -> Beat:
        """Renews a lease and reports progress; for the supervisor that holds the place."""
        held, closing, cluster = self._script(
            scripts.BEAT,
            [job_key(job_id), tasks_key(job_id, generation)],
            str(place),
            token,
            progress.model_dump_json() if progress else "",
        )
        return Beat(bool(held), bool(closing), json.loads(cluster) if cluster else None)

    def release(self, job_id: str, generation: int, place: Place, *, token: str, outcome: Outcome) -> None:
        """Gives a place back with how its task ended; of no effect if the lease is not the caller's."""
        self._script(scripts.RELEASE, [tasks_key(job_id, generation)], str(place), token, outcome.model_dump_json())

    # Logs

    def append_logs(self, job_id: str, generation: int, place: Place, lines: Iterable[str]) -> None:
        """Adds lines of one task to the job's log stream, which keeps about the newest 20,000."""
        with self._errors(), self._redis.pipeline(transaction=False) as pipeline:
            for line in lines:
                entry = {"place": str(place), "generation": generation, "line": line}
                pipeline.xadd(logs_key(job_id), entry, maxlen=_MAX_LOG_LINES, approximate=True)
            pipeline.execute()

    def logs(self, job_id: str, *, after: str = "0", wait_secs: float = 0) -> list[LogLine]:
        """Log lines in the order in which they arrived.

        Args:
            job_id: The job.
            after: Id of the last line already seen; "0" means from the beginning.
            wait_secs: How long to wait for a line if there is none.
        """
        with self._errors():
            block = int(wait_secs * 1000) or None
            streams = self._redis.xread({logs_key(job_id): after}, count=1000, block=block)
        entries = streams[0][1] if isinstance(streams, list) and streams else []
        if isinstance(streams, Mapping):
            entries = [entry for chunk in streams.get(logs_key(job_id), []) for entry in chunk]
        return [LogLine(id_, int(e["generation"]), Place.parse(e["place"]), e["line"]) for id_, e in entries]

    # Workers

    def announce(self, worker: WorkerInfo) -> None:
        """Says that a worker is there, or still there: call it every few seconds."""
        with self._errors(), self._redis.pipeline() as pipeline:
            pipeline.hset("runner:workers", worker.id, worker.model_dump_json(exclude={"beat"}))
            pipeline.hincrby("runner:workers", f"{worker.id}#beat", 1)
            pipeline.execute()

    def withdraw(self, worker_id: str) -> None:
        """Forgets a worker: its own goodbye, or the coordinator's verdict that it is lost."""
        with self._errors():
            self._redis.hdel("runner:workers", worker_id, f"{worker_id}#beat")

    def workers(self) -> list[WorkerInfo]:
        """All workers that announced themselves, live or not, by id."""
        with self._errors():
            fields = self._redis.hgetall("runner:workers")
        return [
            WorkerInfo.model_validate_json(text).model_copy(update={"beat": int(fields.get(f"{id_}#beat", 0))})
            for id_, text in sorted(fields.items())
            if "#" not in id_
        ]

    # For the coordinator

    def take_over(self) -> int:
        """Makes the caller the leader, and returns its epoch; the coordinator before it can no longer write."""
        with self._errors():
            return int(self._redis.incr("runner:epoch"))

    def check_epoch(self, epoch: int) -> None:
        """Raises StaleEpochError unless the caller is still the leader, which it tells people by this."""
        self._script(scripts.LEAD, [], epoch, _LEADER_MILLISECS)

    def has_leader(self) -> bool:
        """Whether a coordinator has shown a sign of life lately."""
        with self._errors():
            return bool(self._redis.exists("runner:leader"))

    def epoch(self) -> int:
        """The epoch of the leader; 0 before the first one, or after Redis has lost its data."""
        with self._errors():
            return int(self._redis.get("runner:epoch") or 0)

    def begin_generation(self, epoch: int, job: JobRecord, *, fence: int = 0) -> int | None:
        """Opens the next generation: its places can be claimed, and the tasks of the last one are forgotten.

        Args:
            epoch: Of the leader.
            job: As read before; refused if it has begun another generation since.
            fence: Highest generation that has written into the model_dir, be it this job's or not.

        Returns:
            Its number, above both; None if another one was begun in between.
        """
        generation = max(job.generation, fence) + 1
        keys = [job_key(job.id), tasks_key(job.id, job.generation)]
        begun = self._script(scripts.BEGIN_GENERATION, keys, epoch, job.generation, generation)
        return generation if begun else None

    def seal(self, epoch: int, job: JobRecord, cluster: ClusterSpec) -> bool:
        """Publishes the addresses of a generation, all of whose places are claimed."""
        return bool(self._script(scripts.SEAL, [job_key(job.id)], epoch, job.generation, json.dumps(cluster)))

    def close_generation(self, epoch: int, job: JobRecord) -> bool:
        """Tells every supervisor of the generation to stop its training process."""
        return bool(self._script(scripts.CLOSE, [job_key(job.id)], epoch, job.generation))

    def end_task(self, epoch: int, job: JobRecord, place: Place, outcome: Outcome) -> None:
        """Records the end of a task whose lease is lost; of no effect if it reported its own."""
        self._script(
            scripts.END_TASK,
            [job_key(job.id), tasks_key(job.id, job.generation)],
            epoch,
            str(place),
            outcome.model_dump_json(),
        )

    def transition(self, epoch: int, job: JobRecord, state: State, reason: Reason, message: str, **fields: Any) -> bool:
        """Changes the state of a job, or only its reason, message and further fields.

        The change is an event of the job if its state or reason is new. Refused for a job that has ended.

        Returns:
            Whether the change was made.
        """
        now = rfc3339(self._now())
        event = Event(
            time=now, state=state, reason=reason, message=message, generation=fields.get("generation", job.generation)
        )
        is_new = (state, reason) != (job.state, job.reason)
        changed = {"state": state, "reason": reason, "message": message, **fields}
        if state.is_terminal:
            changed["ended_at"] = now
        if state is State.STARTING and job.started_at is None:
            changed["started_at"] = now
        return bool(
            self._script(
                scripts.TRANSITION,
                [job_key(job.id), events_key(job.id)],
                epoch,
                job.id,
                job.reserved,
                "1" if state.is_terminal else "",
                event.model_dump_json() if is_new else "",
                *flat({name: encode(value) for name, value in changed.items()}),
            )
        )

    def wakes(self) -> Wakes:
        """A subscription that a coordinator waits on between two passes."""
        return Wakes(self._redis, self._errors)
