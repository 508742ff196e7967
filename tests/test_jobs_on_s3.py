"""Jobs whose model_dir is on a real S3 server: what is checked when, and by whom; no training process is started."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner.checkpoint.state import STATE_FILE, CheckpointState, Claim
from runner.cli import main
from runner.client import Client, Job
from runner.cluster import TaskType
from runner.coordinator.fences import read_fence
from runner.errors import ModelDirError, StorageError
from runner.jobs.records import SPEC_NAME, GenerationRecord, generation_name
from runner.jobs.snapshot import snapshot_name
from runner.jobs.spec import JobSpec
from runner.jobs.state import Outcome, OutcomeKind
from runner.jobs.store import JobStore
from runner.settings import Settings
from runner.storage.urls import open_directory
from tests.generation import CHIEF
from tests.protocol import program
from tests.seaweed import SeaweedFS, use
from workers.messages import TrainerTask
from workers.outcomes import outcome_of
from workers.supervisor import Supervisor
from workers.trainer import _prepare_model_dir


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Little time for a gang to come together, and so for a store that does not answer."""
    return replace(settings, rendezvous_secs=2.0, beat_secs=0.1)


@pytest.fixture
def submit(client: Client, code_dir: Path) -> Callable[[str], Job]:
    return lambda url: client.submit("iris:experiment", model_dir=url, code_dir=code_dir)


@pytest.fixture
def run_chief(store: JobStore, settings: Settings, tmp_path: Path) -> Callable[[Job], Outcome | None]:
    """Begins the next generation of a job, and runs its chief as a worker does; the training itself does nothing."""

    def run(job: Job) -> Outcome | None:
        generation = store.begin_generation(store.take_over(), store.job(job.id))
        assert generation is not None
        supervisor = Supervisor(
            store,
            settings,
            job_id=job.id,
            generation=generation,
            place=CHIEF,
            worker="worker-1",
            cache_dir=tmp_path / "cache",
            environ=os.environ,
            command=program(tmp_path, "end('completed', open(task['code_dir'] + '/iris.py').read())"),
        )
        return supervisor.run()

    return run


def test_a_submitted_job_lies_in_its_bucket(submit: Callable[[str], Job], store: JobStore, s3_url: str) -> None:
    job = submit(s3_url)

    spec, directory = store.job(job.id).spec, open_directory(s3_url)
    assert spec.model_dir == s3_url
    assert spec.code is not None
    assert JobSpec.from_json(directory.read_bytes(SPEC_NAME).decode()) == spec
    assert [entry.name for entry in directory.list(recursive=True)] == [snapshot_name(spec.code), SPEC_NAME]
    assert job.checkpoints() == []


def test_two_names_of_a_bucket_are_one_model_dir(submit: Callable[[str], Job], s3_url: str) -> None:
    job = submit(s3_url)

    for name in (f"{s3_url}/", s3_url.replace("s3://", "s3a://")):
        with pytest.raises(ModelDirError, match=job.id):
            submit(name)


def test_keys_are_neither_in_a_job_nor_in_what_it_leaves(
    submit: Callable[[str], Job], store: JobStore, s3: SeaweedFS, s3_url: str
) -> None:
    job = submit(s3_url)

    directory = open_directory(s3_url)
    told = [directory.read_bytes(entry.name) for entry in directory.list(recursive=True)]
    told += [job.status().model_dump_json().encode(), store.job(job.id).spec.to_json().encode()]
    for key in s3.server.keys:
        assert not any(half.encode() in text for text in told for half in (key.access_key, key.secret_key))


def test_a_worker_gets_the_code_from_the_bucket(
    submit: Callable[[str], Job], run_chief: Callable[[Job], Outcome | None], s3_url: str, code_dir: Path
) -> None:
    outcome = run_chief(submit(s3_url))

    assert outcome is not None
    assert (outcome.kind, outcome.message) == (OutcomeKind.COMPLETED, (code_dir / "iris.py").read_text())


def test_a_worker_that_has_the_code_needs_no_bucket_for_it(
    submit: Callable[[str], Job], run_chief: Callable[[Job], Outcome | None], store: JobStore, s3_url: str
) -> None:
    job = submit(s3_url)
    first = run_chief(job)
    sha256 = store.job(job.id).spec.code
    assert sha256 is not None
    open_directory(s3_url).delete(snapshot_name(sha256))

    assert run_chief(job) == first


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "secret key is not that of the access key"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "does not know the access key"),
    ],
)
def test_wrong_credentials_are_told_at_submit_and_leave_no_job(
    submit: Callable[[str], Job],
    client: Client,
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    message: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ModelDirError, match=message) as caught:
        submit(s3_url)

    assert "wrong" not in str(caught.value)
    assert client.list() == []


@pytest.mark.usefixtures("s3_url")
def test_a_missing_bucket_is_told_at_submit(submit: Callable[[str], Job], client: Client) -> None:
    with pytest.raises(ModelDirError, match="create the bucket: aws s3 mb s3://nosuch"):
        submit("s3://nosuch/iris")

    assert client.list() == []


def test_a_bucket_that_may_only_be_read_is_told_at_submit(
    submit: Callable[[str], Job], client: Client, s3: SeaweedFS, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(s3.environ(s3.reader), monkeypatch)

    with pytest.raises(ModelDirError, match="s3:PutObject"):
        submit(s3_url)

    assert client.list() == []


def test_a_store_that_does_not_answer_is_told_at_submit_and_has_an_exit_code_of_its_own(
    client: Client,
    settings: Settings,
    code_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    use({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, monkeypatch)
    command = ["submit", "iris:experiment", "--model-dir", "s3://models/iris", "--code-dir", str(code_dir)]

    result = CliRunner().invoke(main, command, env={"RUNNER_REDIS_URL": settings.redis_url}, prog_name="runner")

    assert result.exit_code == 3, result.output
    assert "model_dir s3://models/iris cannot be reached" in result.stderr
    assert "AWS_ENDPOINT_URL, which is http://127.0.0.1:1" in result.stderr
    assert "Trying again for up to 10 s" in caplog.text
    assert client.list() == []


@pytest.mark.parametrize(
    ("variable", "value", "kind", "messages"),
    [
        pytest.param(
            "AWS_SECRET_ACCESS_KEY",
            "wrong",
            OutcomeKind.CONFIG_ERROR,
            ("The job's code cannot be used", "SignatureDoesNotMatch"),
            id="credentials",
        ),
        pytest.param(
            "AWS_ENDPOINT_URL_S3",
            "http://127.0.0.1:1",
            OutcomeKind.KILLED,
            ("worker-1 could not read the job's code", "Check that the store is up"),
            id="outage",
        ),
    ],
)
def test_wrong_credentials_of_a_worker_end_the_job_and_an_outage_is_charged_to_its_machine(
    submit: Callable[[str], Job],
    run_chief: Callable[[Job], Outcome | None],
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    kind: OutcomeKind,
    messages: tuple[str, str],
) -> None:
    job = submit(s3_url)
    monkeypatch.setenv(variable, value)

    outcome = run_chief(job)

    assert outcome is not None
    assert outcome.kind is kind
    assert all(message in outcome.message for message in messages), outcome.message


def chief_of(model_dir: str) -> TrainerTask:
    return TrainerTask(
        job_id="iris-aaaaaaaa",
        generation=4,
        task_type=TaskType.CHIEF,
        index=0,
        entry="iris:experiment",
        params={},
        model_dir=model_dir,
    )


def test_a_chief_leaves_a_record_before_it_trains(s3_url: str) -> None:
    _prepare_model_dir(chief_of(s3_url), {"chief": ["10.0.0.7:2222"]})

    record = GenerationRecord.model_validate_json(open_directory(s3_url).read_bytes(generation_name(4)))
    assert (record.job, record.generation, record.cluster) == ("iris-aaaaaaaa", 4, {"chief": ["10.0.0.7:2222"]})


def test_a_chief_that_could_not_save_does_not_begin_to_train(
    s3: SeaweedFS, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(s3.environ(s3.reader), monkeypatch)

    for model_dir in (s3_url, "s3://nosuch/iris"):
        with pytest.raises(ModelDirError) as caught:
            _prepare_model_dir(chief_of(model_dir), {})

        assert outcome_of(caught.value, is_ready=False).kind is OutcomeKind.CONFIG_ERROR


def test_the_fence_of_a_bucket_is_read_and_an_outage_is_not_its_absence(s3_url: str) -> None:
    before = read_fence(s3_url)
    claimed = CheckpointState(latest=None, claim=Claim(7, "iris-aaaaaaaa", "nonce"))
    open_directory(s3_url).write_bytes(STATE_FILE, claimed.encode())

    assert (before, read_fence(s3_url)) == (0, 7)
    with pytest.raises(StorageError):
        read_fence("s3://nosuch/iris")
