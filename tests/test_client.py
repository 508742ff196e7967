"""Submitting jobs: what they carry, and what is refused, on a real Valkey."""

import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from runner.client import Client, Job
from runner.errors import (
    CodeSnapshotError,
    EntryError,
    JobSpecError,
    ModelDirError,
    ModelDirInUseError,
    RedisUnavailableError,
    RunnerError,
)
from runner.jobs.records import SPEC_NAME
from runner.jobs.snapshot import snapshot_name, unpack
from runner.jobs.spec import JobSpec
from runner.jobs.state import Reason, State
from runner.jobs.store import JobStore
from runner.settings import Settings
from runner.storage.urls import open_directory

# Submit


def test_a_submitted_job_carries_what_was_given(
    client: Client, store: JobStore, code_dir: Path, tmp_path: Path
) -> None:
    job = client.submit(
        "iris:experiment",
        params={"hidden_units": [10, 10]},
        model_dir=tmp_path / "model",
        workers=2,
        queue="gpu",
        priority=7,
        env={"TZ": "UTC"},
        max_failures=1,
        code_dir=code_dir,
    )

    spec = store.job(job.id).spec
    assert job.id.startswith("iris-")
    assert spec.model_dir == str(tmp_path / "model")
    assert (spec.params, spec.workers, spec.queue) == ({"hidden_units": [10, 10]}, 2, "gpu")
    assert (spec.priority, spec.env, spec.max_failures) == (7, {"TZ": "UTC"}, 1)


def test_the_code_lies_in_model_dir_under_its_hash(store: JobStore, job: Job, tmp_path: Path) -> None:
    sha256 = store.job(job.id).spec.code

    assert sha256 is not None
    data = open_directory(str(tmp_path / "model")).read_bytes(snapshot_name(sha256))
    assert (unpack(data, sha256, tmp_path / "cache") / "iris.py").is_file()


def test_the_model_dir_alone_tells_how_to_submit_the_job_again(store: JobStore, job: Job, tmp_path: Path) -> None:
    recorded = JobSpec.from_json((tmp_path / "model" / SPEC_NAME).read_text())

    assert recorded == store.job(job.id).spec
    assert recorded.code is not None


def test_the_same_code_is_stored_once(
    client: Client, store: JobStore, job: Job, code_dir: Path, tmp_path: Path
) -> None:
    sha256 = store.job(job.id).spec.code
    assert sha256 is not None
    zip_file = tmp_path / "model" / snapshot_name(sha256)
    inode = zip_file.stat().st_ino
    store.transition(store.take_over(), store.job(job.id), State.CANCELLED, Reason.CANCEL_REQUESTED, "cancelled")

    client.submit("iris:experiment", model_dir=tmp_path / "model", code_dir=code_dir)

    assert zip_file.stat().st_ino == inode


def test_an_installed_entry_needs_no_snapshot(client: Client, store: JobStore, tmp_path: Path) -> None:
    by_name = client.submit("textwrap:dedent", model_dir=tmp_path / "a", code_dir=tmp_path)
    by_function = client.submit(pytest.main, model_dir=tmp_path / "b")

    assert store.job(by_name.id).spec.code is None
    assert store.job(by_function.id).spec.code is None


@pytest.mark.parametrize(
    ("entry", "name"),
    [("iris:experiment", "iris-"), ("iris:wide", "iris-wide-"), ("deep_models.Iris_V2:experiment", "iris-v2-")],
)
def test_the_name_comes_from_the_entry(client: Client, code_dir: Path, tmp_path: Path, entry: str, name: str) -> None:
    (code_dir / "deep_models").mkdir()
    (code_dir / "deep_models/Iris_V2.py").write_text("def experiment(): ...")

    assert client.submit(entry, model_dir=tmp_path / "model", code_dir=code_dir).id[:-8] == name


_SCRIPT = """
import sys
from pathlib import Path
from runner.client import Client
from runner.jobs.store import JobStore
from runner.settings import Settings
from local_models import wide
settings = Settings(redis_url=sys.argv[1], runtime_dir=Path.cwd())
def experiment(config): ...
if __name__ == "__main__":
    for entry in (experiment, wide, "elsewhere:experiment"):
        job = Client(settings).submit(entry, model_dir="runs/" + str(getattr(entry, "__name__", "name")))
        spec = JobStore(settings).job(job.id).spec
        print(spec.entry, spec.code is not None, spec.model_dir)
"""


def test_a_script_submits_its_own_functions_from_any_directory(settings: Settings, tmp_path: Path) -> None:
    scripts, cwd = tmp_path / "scripts", tmp_path / "cwd"
    scripts.mkdir()
    cwd.mkdir()
    (scripts / "train.py").write_text(_SCRIPT)
    (scripts / "local_models.py").write_text("def wide(config): ...")
    (cwd / "elsewhere.py").write_text("def experiment(config): ...")

    command = [sys.executable, str(scripts / "train.py"), settings.redis_url]
    output = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout

    assert output.splitlines() == [
        f"train:experiment True {cwd}/runs/experiment",
        f"local_models:wide True {cwd}/runs/wide",
        f"elsewhere:experiment True {cwd}/runs/name",
    ]


def _recursive() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"entry": "nosuch:experiment"}, EntryError, "no module 'nosuch'"),
        ({"entry": "iris:nosuch"}, EntryError, "it has experiment, wide"),
        ({"entry": lambda: None}, EntryError, "lambda"),
        ({"workers": -1}, JobSpecError, "workers=-1.*0 or more"),
        ({"workers": "many"}, JobSpecError, "workers='many'"),
        ({"workers": "1"}, JobSpecError, "workers='1'"),
        ({"workers": True}, JobSpecError, "workers=True"),
        ({"priority": "1"}, JobSpecError, "priority='1'"),
        ({"params": {"rate": float("nan")}}, JobSpecError, "^params: rate=nan is not a finite number.*finite numbers"),
        ({"params": {"a": [{"b": float("-inf")}]}}, JobSpecError, r"^params: a\.0\.b=-inf is not"),
        ({"params": {"layers": object()}}, JobSpecError, r"params\.layers.*JSON"),
        ({"params": {"layers": _recursive()}}, JobSpecError, "params.*"),
        ({"params": {"name": "\ud800"}}, JobSpecError, "params.*"),
        ({"params": [1]}, JobSpecError, "params=.*dict"),
        ({"params": {1: 2}}, JobSpecError, "params.*"),
        ({"name": "Iris!"}, JobSpecError, "name='Iris!'.*lower-case"),
        ({"queue": "a b"}, JobSpecError, "queue='a b'"),
        ({"env": {"API_KEY": "x"}}, JobSpecError, "environment of the workers"),
        ({"env": {"A=B": "x"}}, JobSpecError, "cannot be set"),
        ({"env": {"A": 1}}, JobSpecError, r"env\.A: "),
        ({"max_failures": -1}, JobSpecError, "max_failures=-1"),
        ({"model_dir": ""}, ModelDirError, "model_dir=''"),
        ({"model_dir": None}, ModelDirError, "model_dir=None"),
        ({"model_dir": "memory://iris"}, ModelDirError, "in the memory of this process"),
        ({"model_dir": "s3://key:secret@bucket/iris"}, ModelDirError, "has a password"),
        ({"model_dir": "gs://bucket/iris"}, ModelDirError, "gs:// is not installed"),
        ({"model_dir": "nosuch://iris"}, ModelDirError, "fsspec knows no protocol"),
        ({"model_dir": "/dev/null/model"}, ModelDirError, "cannot be written"),
        ({"code_dir": "/nowhere"}, CodeSnapshotError, "not a directory"),
    ],
)
def test_bad_input_gets_a_clear_error_and_leaves_nothing(
    client: Client, code_dir: Path, tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    good: dict[str, Any] = {"entry": "iris:experiment", "model_dir": tmp_path / "model", "code_dir": code_dir}

    with pytest.raises(error, match=message) as caught:
        client.submit(**{**good, **arguments})

    assert isinstance(caught.value, RunnerError)
    assert isinstance(caught.value, ValueError)
    assert client.list() == []
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "env",
    [
        {"AWS_SECRET_ACCESS_KEY": "xyzzy"},
        {"DATABASE": "postgres://alice:xyzzy@db/iris"},
        {"OPTIONS": "--broker redis://:xyz/zy@redis --verbose"},
        {"A": "xyzzy\0"},
        {"A=xyzzy": ""},
        {"A": b"xyzzy", "B": ["xyzzy"]},
        {"A": {"b": "xyzzy"}},
        "A=xyzzy",
    ],
)
def test_an_env_that_is_refused_is_named_and_not_told(client: Client, code_dir: Path, tmp_path: Path, env: Any) -> None:
    with pytest.raises(JobSpecError, match=r"env") as caught:
        client.submit("iris:experiment", model_dir=tmp_path / "model", code_dir=code_dir, env=env)

    told = "".join(traceback.format_exception(caught.value))
    assert "xyzzy" not in told
    assert "xyz/zy" not in told


def test_a_url_without_a_password_may_be_in_the_env(client: Client, store: JobStore, tmp_path: Path) -> None:
    env = {"PROXY": "http://proxy:3128/a@b", "REDIS": "redis://alice@redis:6379/0"}

    job = client.submit("textwrap:dedent", model_dir=tmp_path / "model", env=env)

    assert store.job(job.id).spec.env == env


def test_a_job_says_what_was_packed_for_it(client: Client, code_dir: Path, tmp_path: Path) -> None:
    (code_dir / "prod.env").write_text("secret")

    job = client.submit("iris:experiment", model_dir=tmp_path / "model", code_dir=code_dir)

    assert job.code is not None
    assert (job.code.files, job.code.secrets) == (1, ("prod.env",))
    assert client.get(job.id).code is None


def test_a_status_says_whether_a_coordinator_is_there(job: Job, store: JobStore) -> None:
    before = job.status().has_coordinator
    store.check_epoch(store.take_over())

    assert (before, job.status().has_coordinator) == (False, True)


def test_logs_go_on_from_a_line(job: Job, store: JobStore) -> None:
    store.append_logs(job.id, 1, store.job(job.id).spec.roster[0], ["a", "b", "c"])
    first, *_ = job.logs()

    assert [line.line for line in job.logs(after=first.id)] == ["b", "c"]


def test_a_model_dir_that_is_the_code_directory_is_refused(client: Client, code_dir: Path) -> None:
    with pytest.raises(ModelDirError, match="directory of the code"):
        client.submit("iris:experiment", model_dir=code_dir, code_dir=code_dir)

    assert client.list() == []


def test_a_model_dir_inside_the_code_directory_is_not_part_of_the_code(
    client: Client, store: JobStore, code_dir: Path
) -> None:
    (code_dir / "model").mkdir()
    (code_dir / "model/model.ckpt-1.index").write_text("checkpoint")

    job = client.submit("iris:experiment", model_dir=code_dir / "model", code_dir=code_dir)

    sha256 = store.job(job.id).spec.code
    assert sha256 is not None
    unpacked = unpack(
        open_directory(str(code_dir / "model")).read_bytes(snapshot_name(sha256)), sha256, code_dir.parent / "cache"
    )
    assert [path.name for path in unpacked.iterdir()] == ["iris.py"]


def test_a_second_job_on_a_model_dir_is_refused_and_changes_nothing(
    client: Client, job: Job, code_dir: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    (code_dir / "iris.py").write_text("def experiment(config): return 'other code'")

    with pytest.raises(ModelDirInUseError, match=job.id):
        client.submit("iris:experiment", model_dir=tmp_path / "model", code_dir=code_dir)

    assert sorted(tmp_path.rglob("*")) == before
    assert [other.id for other in client.list()] == [job.id]


def test_without_redis_the_error_says_how_to_start_one(code_dir: Path, tmp_path: Path) -> None:
    settings = Settings(redis_url=f"unix://{tmp_path}/redis.sock", runtime_dir=tmp_path)

    with Client(settings) as client, pytest.raises(RedisUnavailableError, match="runner up"):
        client.submit("iris:experiment", model_dir=tmp_path / "model", code_dir=code_dir)

    assert not (tmp_path / "model").exists()
