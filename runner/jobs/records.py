"""What a model_dir tells of the jobs that used it, so that it alone can rebuild the last one.

    .runner/spec.json               JobSpec of the newest job, written by its client
    .runner/code/<sha256>.zip       its code; see runner.jobs.snapshot
    .runner/generations/<g>.json    GenerationRecord, written by the chief of each generation as it begins

There are no credentials in any of it. The commits of checkpoints, see runner.checkpoint.commits, name the code.
"""

import contextlib
from pathlib import Path

from runner.checkpoint.commits import read_commit
from runner.checkpoint.inventory import CHECKPOINT_BASENAME
from runner.checkpoint.listing import list_checkpoints
from runner.cluster import ClusterSpec
from runner.errors import CheckpointNotFoundError, CodeSnapshotError, ConditionFailedError, ObjectNotFoundError
from runner.jobs.snapshot import snapshot_name, unpack_copy
from runner.jobs.spec import JobSpec, Model
from runner.storage.directory import Directory, IfAbsent
from runner.storage.urls import open_directory

__all__ = ["SPEC_NAME", "GenerationRecord", "generation_name", "unpack_code", "write_generation", "write_spec"]

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


def unpack_code(model_dir: str, step: int, target: Path) -> str:
    """Unpacks the code that wrote a checkpoint.

    Args:
        model_dir: What `resolve_model_dir` returned.
        step: Of the checkpoint.
        target: Does not exist, or is an empty directory.

    Returns:
        The sha256 of its snapshot.

    Raises:
        CheckpointNotFoundError: There is no record of a checkpoint of that step.
        CodeSnapshotError: No snapshot wrote it, the snapshot is gone or damaged, or there is something at `target`.
    """
    directory = open_directory(model_dir)
    commit = read_commit(directory, f"{CHECKPOINT_BASENAME}-{step}")
    if commit is None:
        steps = [info.step for info in list_checkpoints(model_dir)]
        raise CheckpointNotFoundError(
            f"Nothing is recorded of who wrote step {step} in {model_dir}; complete steps: {steps}. "
            "A checkpoint that TensorFlow itself wrote has no record."
        )
    if commit.code is None:
        raise CodeSnapshotError(
            f"Step {step} in {model_dir} was written by {commit.owner} without a code snapshot: its entry came with "
            "the environment, or it was no job."
        )
    try:
        data = directory.read_bytes(snapshot_name(commit.code))
    except ObjectNotFoundError as error:
        raise CodeSnapshotError(
            f"{model_dir}/{snapshot_name(commit.code)}, the code that wrote step {step}, is gone: {error}"
        ) from error
    unpack_copy(data, commit.code, target)
    return commit.code
