"""What a model_dir tells of its jobs: how to submit the last one again, generations, the code of a checkpoint."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.checkpoint.commits import Commit, commit_name
from runner.errors import CheckpointNotFoundError, CodeSnapshotError
from runner.jobs.records import (
    SPEC_NAME,
    GenerationRecord,
    generation_name,
    unpack_code,
    write_generation,
    write_spec,
)
from runner.jobs.snapshot import pack, snapshot_name
from runner.jobs.spec import JobSpec
from runner.storage.directory import Directory
from runner.storage.urls import open_directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return open_directory(str(tmp_path / "model"))


def commit(directory: Directory, step: int, code: str | None) -> None:
    recorded = Commit(
        step=step, generation=1, owner="iris-aaaaaaaa", code=code, time=datetime.now(UTC), objects={}, nonce="n"
    )
    directory.write_bytes(commit_name(f"model.ckpt-{step}"), recorded.encode())


def snapshot(directory: Directory, code_dir: Path) -> str:
    packed = pack(code_dir)
    directory.write_bytes(snapshot_name(packed.sha256), packed.data)
    return packed.sha256


def test_a_spec_is_read_back_equal(directory: Directory) -> None:
    spec = JobSpec(entry="iris:experiment", params={"rate": 0.1}, model_dir=directory.url, name="iris", workers=2)

    write_spec(directory, spec)

    assert JobSpec.from_json(directory.read_bytes(SPEC_NAME).decode()) == spec


def test_of_two_jobs_that_come_to_one_generation_the_first_stays_on_record(directory: Directory) -> None:
    for job in ("first-aaaaaaaa", "second-aaaaaaaa"):
        write_generation(directory, GenerationRecord(job=job, generation=2, code=None, time="", cluster={}))

    record = GenerationRecord.model_validate_json(directory.read_bytes(generation_name(2)))
    assert record.job == "first-aaaaaaaa"


def test_the_code_of_a_checkpoint_is_that_which_wrote_it(directory: Directory, code_dir: Path, tmp_path: Path) -> None:
    commit(directory, 100, snapshot(directory, code_dir))
    (code_dir / "iris.py").write_text("VERSION = 2")
    commit(directory, 200, snapshot(directory, code_dir))

    sha256 = unpack_code(directory.url, 100, tmp_path / "then")
    unpack_code(directory.url, 200, tmp_path / "now")

    assert "def wide" in (tmp_path / "then" / "iris.py").read_text()
    assert (tmp_path / "now" / "iris.py").read_text() == "VERSION = 2"
    assert directory.stat(snapshot_name(sha256)) is not None


def test_a_checkpoint_without_code_says_why_there_is_none(directory: Directory, tmp_path: Path) -> None:
    commit(directory, 100, None)
    commit(directory, 200, "a" * 64)

    with pytest.raises(CodeSnapshotError, match="iris-aaaaaaaa without a code snapshot"):
        unpack_code(directory.url, 100, tmp_path / "then")
    with pytest.raises(CodeSnapshotError, match="is gone"):
        unpack_code(directory.url, 200, tmp_path / "then")
    with pytest.raises(CheckpointNotFoundError, match="Nothing is recorded of who wrote step 300"):
        unpack_code(directory.url, 300, tmp_path / "then")
    assert not (tmp_path / "then").exists()
