"""`runner worker` and `runner up`, as processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from click.testing import Result

from runner.jobs.store import JobStore
from runner.settings import Settings
from tests.protocol import is_running
from tests.waiting import wait_until

Run = Callable[..., Result]

RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_a_worker_without_redis_says_so_in_a_sentence_and_waits(settings: Settings, tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/redis.sock"
    arguments = [sys.executable, "-m", "runner.cli", "worker"]
    environ = {**os.environ, "RUNNER_REDIS_URL": url}
    with subprocess.Popen(arguments, env=environ, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        first, second = worker.stderr.readline(), worker.stderr.readline()

        (tmp_path / "redis.sock").symlink_to(settings.redis_url.removeprefix("unix://"))
        store = JobStore(settings)
        wait_until(store.workers)
        store.close()
        worker.terminate()
        _, rest = worker.communicate(timeout=60)

    assert first.startswith(f"No Redis at {url}")
    assert second == "The worker waits for it.\n"
    # Said of pickle, which is not accepted here, to whoever is root.
    assert "superuser" not in rest


@pytest.fixture
def runtime() -> Iterator[dict[str, str]]:
    """The environment of a user whose runtime directory is empty; its path is short enough for a socket."""
    with TemporaryDirectory(prefix="up-") as path:
        yield {**os.environ, "XDG_RUNTIME_DIR": path}


def command(*arguments: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "runner.cli", *arguments], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_the_commands_of_its_user_until_it_is_stopped(
    runtime: dict[str, str], number: signal.Signals, tmp_path: Path
) -> None:
    arguments = [sys.executable, "-m", "runner.cli", "up"]
    options: dict[str, Any] = {"env": runtime, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(arguments, **options) as up:
        assert up.stdout is not None
        assert "Up with 2 slots" in up.stdout.readline()
        pids = [process.pid for process in psutil.Process(up.pid).children(recursive=True)]

        listed = command("list", "--json", env=runtime)
        second = command("up", env=runtime)
        submitted = command(
            *(
                "submit",
                "runner.quickstart.iris:experiment",
                "--model-dir",
                str(tmp_path),
                "--workers",
                "7",
                "--detach",
            ),
            env=runtime,
        )
        os.killpg(up.pid, number)

        assert (listed.returncode, json.loads(listed.stdout)) == (0, [])
        assert second.returncode == 2
        assert "already runs" in second.stderr
        assert up.stdout.read().endswith(f"\nStopped, and with it {submitted.stdout.strip()}.\n")
        assert up.wait(60) == 0
    assert len(pids) == 3
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_up_refuses_a_redis_url_under_which_nobody_would_find_it(runtime: dict[str, str]) -> None:
    result = command("up", env={**runtime, "RUNNER_REDIS_URL": "redis://localhost"})

    assert result.returncode == 2
    assert "RUNNER_REDIS_URL" in result.stderr


def test_up_shows_how_to_reach_its_s3_server(runtime: dict[str, str], tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "runner.cli", "up", "--slots", "1", "--s3", str(tmp_path / "s3")]
    options: dict[str, Any] = {"env": runtime, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, **options) as up:
        assert up.stdout is not None
        exports = []
        while "Ctrl-C" not in (line := up.stdout.readline()):
            exports.append(line)
        source = "from runner.storage.urls import open_directory; open_directory('s3://models/iris').check_writable()"
        script = "\n".join([*(line for line in exports if "export" in line), f'{sys.executable} -c "{source}"'])

        used = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        up.terminate()

        assert (used.returncode, used.stderr) == (0, "")
        assert up.wait(60) == 0
    assert any(str(tmp_path / "s3") in line for line in exports)
