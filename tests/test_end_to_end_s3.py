"""The whole path on an object store: nothing is shared between the tasks but Redis and a real S3 server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import Client, Job, LocalStack
from runner.checkpoint.state import STATE_FILE, parse_state
from runner.jobs.records import SPEC_NAME, GenerationRecord, generation_name
from runner.jobs.spec import JobSpec
from runner.jobs.state import Reason, State
from runner.storage.urls import open_directory
from tests.seaweed import SeaweedFS, use
from tests.waiting import wait_until

TIMEOUT_SECS = 240

EXPERIMENT = """
from runner.quickstart.iris import experiment as iris

def experiment(config, params):
    return iris(config.replace(save_checkpoints_steps=params["save_steps"]), params)
"""


@pytest.fixture(scope="module", autouse=True)
def keys(s3: SeaweedFS) -> Iterator[None]:
    """This process, and those that it starts, find the S3 server."""
    with pytest.MonkeyPatch.context() as patch:
        use(s3.environ(), patch)
        yield


@pytest.fixture(scope="module")
def client(keys: None) -> Iterator[Client]:  # noqa: ARG001 - set first
    with LocalStack(slots=2) as client:
        yield client


@pytest.fixture
def code_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "code"
    directory.mkdir()
    (directory / "mine.py").write_text(EXPERIMENT)
    return directory


def describe(job: Job) -> str:
    logs = "\n".join(f"{line.generation} {line.place} {line.line}" for line in list(job.logs())[-60:])
    return f"{job.status().model_dump_json(indent=1)}\n{logs}"


def submit(client: Client, code_dir: Path, model_dir: str, *, workers: int, **params: int) -> Job:
    return client.submit("mine:experiment", params={**params}, model_dir=model_dir, workers=workers, code_dir=code_dir)


def wait_for_save(job: Job, step: int, *, generation: int) -> None:
    """Waits until a generation has published a checkpoint of that step, or of a later one."""

    def has_saved() -> bool:
        status = job.status()
        assert not status.state.is_terminal, describe(job)
        return status.generation == generation and (status.saves.step or 0) >= step

    wait_until(has_saved, lambda: describe(job), timeout_secs=TIMEOUT_SECS)


def test_a_job_on_s3_outlives_its_chief_and_leaves_all_that_it_needs(
    client: Client, code_dir: Path, s3: SeaweedFS
) -> None:
    model_dir = s3.new_url()
    job = submit(client, code_dir, model_dir, workers=1, max_steps=3000, save_steps=500)

    wait_for_save(job, 500, generation=1)
    (chief, _) = job.status().tasks
    assert chief.pid is not None
    os.kill(chief.pid, signal.SIGKILL)
    status = job.wait(TIMEOUT_SECS)

    assert (status.state, status.step, status.generation) == (State.SUCCEEDED, 3000, 2), describe(job)
    assert status.metrics is not None
    assert status.metrics["accuracy"] >= 0.9
    assert status.saves.step == 3000
    assert status.saves.error == ""
    assert job.checkpoints()[-1].step == 3000
    assert job.checkpoints()[-1].latest
    lines = list(job.logs())
    resumed = [line.line for line in lines if line.generation == 2 and "Restoring parameters from" in line.line]
    assert resumed, describe(job)
    assert all(f"{model_dir}/model.ckpt-" in line and not line.endswith("model.ckpt-0") for line in resumed)

    directory = open_directory(model_dir)
    claim = parse_state(directory.read_bytes(STATE_FILE)).claim
    assert claim is not None
    assert (claim.generation, claim.owner) == (2, job.id)
    spec = JobSpec.from_json(directory.read_bytes(SPEC_NAME).decode())
    record = GenerationRecord.model_validate_json(directory.read_bytes(generation_name(2)))
    assert (record.job, record.code) == (job.id, spec.code)
    commit = json.loads(directory.read_bytes(".runner/commits/model.ckpt-3000.json"))
    assert (commit["owner"], commit["generation"], commit["code"]) == (job.id, 2, spec.code)
    names = [entry.name for entry in directory.list(recursive=True)]
    assert any(name.startswith("eval/events") for name in names)

    told = [status.model_dump_json(), *(line.line for line in lines)]
    told += [directory.read_bytes(name).decode() for name in names if name.endswith(".json")]
    for key in s3.server.keys:
        assert not any(key.secret_key in text or key.access_key in text for text in told)


def test_a_job_of_another_redis_takes_a_model_dir_over(client: Client, code_dir: Path, s3: SeaweedFS) -> None:
    model_dir = s3.new_url()
    job = submit(client, code_dir, model_dir, workers=0, max_steps=10_000_000, save_steps=2000)
    wait_for_save(job, 2000, generation=1)

    with LocalStack(slots=1) as elsewhere:
        other = submit(elsewhere, code_dir, model_dir, workers=0, max_steps=10_000_000, save_steps=2000)
        taken = job.wait(TIMEOUT_SECS)
        reached = max(checkpoint.step for checkpoint in job.checkpoints())
        wait_for_save(other, reached + 2000, generation=2)

    assert (taken.state, taken.reason, taken.generation) == (State.FAILED, Reason.MODEL_DIR_TAKEN, 1), describe(job)
    assert other.id in taken.message
    claim = parse_state(open_directory(model_dir).read_bytes(STATE_FILE)).claim
    assert claim is not None
    assert claim.owner == other.id


def test_quickstart_on_s3(s3: SeaweedFS, tmp_path: Path) -> None:
    url = s3.new_url()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
    command = [sys.executable, "-m", "runner.cli", "quickstart", "--workers", "0", "--model-dir", url]

    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert "Trained to step 200." in done.stdout
    assert f"Files in {url}:" in done.stdout
    assert "  model.ckpt-200.index\n" in done.stdout
    assert os.listdir(tmp_path) == []
