"""The S3 servers of `benchmarks.checkpoint`: SeaweedFS, and one that keeps nothing."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from runner.s3_server import S3Server
from runner.tether import tethered

__all__ = ["BUCKET", "null_s3", "seaweedfs"]

BUCKET = "benchmark"

_START_SECS = 60.0
_STOP_SECS = 15.0
_ALONE = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}


@contextlib.contextmanager
def null_s3() -> Iterator[dict[str, str]]:
    """The variables AWS_* of a server that throws everything away, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.null_s3"]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield {
            **_ALONE,
            "AWS_ENDPOINT_URL_S3": process.stdout.readline().strip(),
            "AWS_ACCESS_KEY_ID": "anybody",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        process.stdin.close()


@contextlib.contextmanager
def seaweedfs(directory: Path) -> Iterator[dict[str, str]]:
    """The variables AWS_* of a SeaweedFS with a bucket, whose data lie in a directory that is deleted.

    Raises:
        RuntimeError: It does not start.
    """
    with tempfile.TemporaryDirectory(prefix="seaweedfs-", dir=directory, ignore_cleanup_errors=True) as folder:
        server = S3Server(Path(folder))
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(tethered(server.command), stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_for(server, process, log)
            server.create_bucket(BUCKET)
            yield {**_ALONE, **server.environ()}
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(server: S3Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up_at = time.monotonic() + _START_SECS
    while not server.answers():
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise RuntimeError(f"SeaweedFS did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)
