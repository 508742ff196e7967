"""How jobs and tasks are written in Redis: keys, and the fields of hashes.

Keys, all under "runner:":
    epoch                    leader epoch of the newest coordinator
    leader                   the same, for as long as that coordinator shows signs of life
    submissions              counter of jobs
    jobs                     sorted set of job ids in order of submission
    active                   the same, of the jobs that have not ended
    model_dirs               hash of the real path of a model_dir -> id of the job that uses it
    workers                  hash of worker id -> WorkerInfo, and `<id>#beat` -> counter
    wake                     channel: something changed that a coordinator may want to look at
    job:<id>                 hash of the fields of JobRecord
    job:<id>:events          list of Event, oldest first
    job:<id>:logs            stream of {place, generation, line}
    job:<id>:tasks:<g>       hash of <place> -> Claim, and <place>#lease, <place>#progress, <place>#outcome; of the
                             newest generation only
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from runner.cluster import Place
from runner.errors import JobSpecError
from runner.jobs.spec import JobSpec, Model
from runner.jobs.state import Claim, JobRecord, Outcome, Progress, Task

__all__ = [
    "encode",
    "events_key",
    "flat",
    "job_fields",
    "job_key",
    "logs_key",
    "parse_job",
    "parse_task",
    "rfc3339",
    "tasks_key",
    "utc_now",
]


def job_key(job_id: str) -> str:
    """Hash of the fields of JobRecord."""
    return f"runner:job:{job_id}"


def events_key(job_id: str) -> str:
    """List of Event, oldest first."""
    return f"runner:job:{job_id}:events"


def logs_key(job_id: str) -> str:
    """Stream of log lines."""
    return f"runner:job:{job_id}:logs"


def tasks_key(job_id: str, generation: int) -> str:
    """Hash of the tasks of one generation."""
    return f"runner:job:{job_id}:tasks:{generation}"


def utc_now() -> datetime:
    """The present time; the default clock of the store."""
    return datetime.now(UTC)


def rfc3339(time: datetime) -> str:
    """A time in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(value: Any) -> str:
    """A field of JobRecord as a string of Redis; None and False are ""."""
    if value is None or value is False:
        return ""
    if value is True:
        return "1"
    if isinstance(value, Model):
        return value.model_dump_json()
    return json.dumps(value) if isinstance(value, dict) else str(value)


def job_fields(job: JobRecord) -> dict[str, str]:
    """A job as the fields of its hash; `parse_job` reads them."""
    fields = {name: getattr(job, name) for name in JobRecord.model_fields if name not in ("id", "spec")}
    return {"spec": job.spec.to_json(), **{name: encode(value) for name, value in fields.items()}}


def flat(fields: Mapping[str, str]) -> list[str]:
    """Names and values in turn, as HSET takes them."""
    return [item for pair in fields.items() for item in pair]


def parse_job(job_id: str, fields: Mapping[str, str]) -> JobRecord:
    """A job from the fields of its hash.

    Raises:
        JobSpecError: They are not those that this version writes.
    """
    texts = {name: fields.get(name, "") for name in JobRecord.model_fields}
    decoded: dict[str, Any] = {name: text or None for name, text in texts.items()}
    for name in ("cluster", "metrics"):
        decoded[name] = json.loads(texts[name]) if texts[name] else None
    decoded["saves"] = json.loads(texts["saves"] or "{}")
    for name in ("cancel", "closing"):
        decoded[name] = texts[name] == "1"
    try:
        return JobRecord(**{**decoded, "id": job_id, "spec": JobSpec.from_json(texts["spec"])})
    except ValidationError as error:
        first = error.errors()[0]
        raise JobSpecError(
            f"Job {job_id} cannot be read, {'.'.join(map(str, first['loc']))}: {first['msg']}. "
            "Was it submitted by another version of estimator-runner?"
        ) from error


def parse_task(place: Place, fields: Mapping[str, str]) -> Task:
    """One place from the fields of its generation's hash; unclaimed if there are none."""
    claim, progress, outcome = (fields.get(f"{place}{suffix}") for suffix in ("", "#progress", "#outcome"))
    return Task(
        place=place,
        claim=Claim.model_validate_json(claim) if claim else None,
        lease=int(fields.get(f"{place}#lease", 0)),
        progress=Progress.model_validate_json(progress) if progress else Progress(),
        outcome=Outcome.model_validate_json(outcome) if outcome else None,
    )
