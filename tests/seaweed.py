"""A real S3 server for the tests: SeaweedFS, one for the whole session."""

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.s3_server import S3Key, S3Server
from runner.tether import tethered
from tests.waiting import wait_until

__all__ = ["SeaweedFS", "running_seaweed", "s3", "s3_url", "use"]

_BUCKET = "models"
_STOP_SECS = 10


class SeaweedFS:
    """A server as a process, to be used, stopped, killed and started again.

    Attributes:
        server: Its keys and its endpoint.
        reader: A key that may read and list every bucket, and write to none.
        bucket: One that exists.
    """

    def __init__(self, directory: Path) -> None:
        self.reader = S3Key.new("Read", "List")
        self.server = S3Server(directory, keys=[S3Key.new(), self.reader])
        self.bucket = _BUCKET
        self._log_path = directory / "weed.log"
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, or starts it again with all that was in it; returns when it answers."""
        with self._log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                tethered(self.server.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal of the tests is for them; they end the server.
                start_new_session=True,
            )
        wait_until(lambda: self._popen_ended() or self.server.answers(), self._log_path.read_text)
        assert not self._popen_ended(), self._log_path.read_text()
        self.server.create_bucket(_BUCKET)

    def stop(self) -> None:
        """Ends it: TERM, then KILL."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a power loss would, but for what the system still has in memory."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freezes it: its connections stay open and nothing answers, until `resume`."""
        assert self._popen is not None
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on after `pause`."""
        assert self._popen is not None
        self._popen.send_signal(signal.SIGCONT)

    def environ(self, key: S3Key | None = None) -> dict[str, str]:
        """What a process needs to use it, and nothing of the user's own settings."""
        nowhere = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        return {**nowhere, "AWS_EC2_METADATA_DISABLED": "true", **self.server.environ(key)}

    def new_url(self) -> str:
        """A model_dir that nobody has used."""
        return f"s3://{_BUCKET}/{secrets.token_hex(6)}/model"

    def _popen_ended(self) -> bool:
        return self._popen is None or self._popen.poll() is not None

    def _end(self, number: signal.Signals) -> None:
        if self._popen is None:
            return
        self._popen.send_signal(number)
        try:
            self._popen.wait(_STOP_SECS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen = None
        self.server.clear()


@contextmanager
def running_seaweed(directory: Path) -> Iterator[SeaweedFS]:
    """A server of one's own, for tests that stop it; others share `s3`."""
    seaweed = SeaweedFS(directory)
    try:
        seaweed.start()
        yield seaweed
    finally:
        seaweed.stop()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """The S3 server of this test session. A test that stops or pauses a server uses `running_seaweed`."""
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as seaweed:
        yield seaweed


@pytest.fixture
def s3_url(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model_dir of this test on S3, with the variables AWS_* that lead to it set in this process."""
    use(s3.environ(), monkeypatch)
    return s3.new_url()


def use(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the variables for the rest of the test, and takes away the user's own of the same kind."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
