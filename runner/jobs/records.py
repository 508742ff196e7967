"""What a model_dir tells of the jobs that used it, so that it alone can rebuild the last one.

    .runner/spec.json               JobSpec of the newest job, written by its client
    .runner/code/<sha256>.zip       its code; see runner.jobs.snapshot
    .runner/generations/<g>.json    GenerationRecord, written by the chief of each generation as it begins

There are no credentials in any of it.
"""

import contextlib

from runner.cluster import ClusterSpec
from runner.errors import ConditionFailedError
from runner.jobs.spec import JobSpec, Model
from runner.storage.directory import Directory, IfAbsent

__all__ = ["SPEC_NAME", "GenerationRecord", "generation_name", "write_generation", "write_spec"]

SPEC_NAME = ".runner/spec.json"


class GenerationRecord(Model):
    """One attempt of a job.

    Attributes:
        job: Its id.
        generation: Number of the attempt, above that of every writer before it.
        code: sha256 of the code snapshot that it ran; None: the entry came with the environment.
        time: When its chief was ready to train; UTC, RFC 3339.
        cluster: Addresses of its tasks; empty for a chief alone.
    """

    job: str
    generation: int
    code: str | None
    time: str
    cluster: ClusterSpec


def generation_name(generation: int) -> str:
    """Where the record of a generation lies."""
    return f".runner/generations/{generation}.json"


def write_spec(directory: Directory, spec: JobSpec) -> None:
    """Records what was submitted; `JobSpec.from_json` reads it back equal."""
    directory.write_bytes(SPEC_NAME, f"{spec.to_json()}\n".encode())


def write_generation(directory: Directory, record: GenerationRecord) -> None:
    """Records that a generation begins.

    Another job may have come to the same number at the same time, and one of the two will be told to give way: the
    record of the first one stays.
    """
    with contextlib.suppress(ConditionFailedError):
        data = f"{record.model_dump_json()}\n".encode()
        directory.write_bytes(generation_name(record.generation), data, only=IfAbsent())
