"""LocalStack with its real processes: all there when it is entered, none left behind however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

import runner
from runner.errors import LocalStackError
from runner.local import LocalStack
from runner.storage.urls import open_directory
from tests.protocol import is_running
from tests.seaweed import use
from tests.waiting import wait_until


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for a socket, as the paths of tmp_path are not."""
    with TemporaryDirectory(prefix="stack-") as path:
        yield Path(path)


def descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def named(word: str) -> psutil.Process:
    """The process of a stack with that word in its command."""
    (process,) = [process for process in descendants() if word in process.cmdline()[-5:]]
    return process


def test_a_stack_is_ready_when_entered_and_gone_when_left() -> None:
    before = descendants()

    with runner.LocalStack(slots=2) as client:
        during = descendants() - before

        assert client.list() == []
        assert len(during) == 3

    assert descendants() == before
    assert not any(process.is_running() for process in during)


def test_a_stack_leaves_nothing_in_the_temporary_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(directory))

    with LocalStack(slots=1):
        assert list(directory.iterdir())

    assert list(directory.iterdir()) == []


def test_a_killed_parent_leaves_no_process() -> None:
    source = """
import psutil, signal, runner
with runner.LocalStack(slots=1):
    print(*[process.pid for process in psutil.Process().children(recursive=True)], flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3

        parent.kill()

        wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_an_interrupt_of_the_whole_process_group_ends_the_stack_in_order() -> None:
    source = """
import psutil, signal, runner
try:
    with runner.LocalStack(slots=1):
        children = psutil.Process().children(recursive=True)
        print("ready", flush=True)
        signal.pause()
except KeyboardInterrupt:
    print(*[child.is_running() for child in children])
"""
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"

        os.killpg(parent.pid, signal.SIGINT)

        assert parent.stdout.read() == "False False False\n"


def test_a_process_that_ends_by_itself_is_named_with_the_end_of_its_log() -> None:
    stack = LocalStack(slots=1)
    with stack:
        stack.check()
        coordinator = named("coordinator")

        coordinator.terminate()
        coordinator.wait(60)

        with pytest.raises(LocalStackError, match=r"coordinator ended by itself \(exit code 0\)[\s\S]*leads"):
            stack.check()


def test_a_stack_that_is_not_ready_in_time_leaves_no_process() -> None:
    before = descendants()

    with pytest.raises(LocalStackError, match="not ready in time"), LocalStack(slots=1, start_timeout_secs=0):
        pass

    assert descendants() == before


def test_a_directory_belongs_to_one_stack_at_a_time(directory: Path) -> None:
    with LocalStack(slots=1, directory=directory) as client:
        with pytest.raises(LocalStackError, match="already runs"), LocalStack(slots=1, directory=directory):
            pass

        assert client.list() == []

    with LocalStack(slots=1, directory=directory) as client:
        assert client.list() == []


def test_a_directory_that_others_can_enter_is_refused(directory: Path) -> None:
    directory.chmod(0o755)

    with pytest.raises(LocalStackError, match="not private"), LocalStack(slots=1, directory=directory):
        pass


def test_a_path_too_long_for_a_socket_is_refused(directory: Path) -> None:
    with pytest.raises(LocalStackError, match="XDG_RUNTIME_DIR"), LocalStack(slots=1, directory=directory / ("d" * 90)):
        pass


def test_a_stack_needs_slots() -> None:
    with pytest.raises(ValueError, match="slots=0"):
        LocalStack(slots=0)


def test_a_stack_may_have_an_s3_server_whose_objects_and_keys_stay(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = LocalStack(slots=1, s3_dir=directory / "s3")
    with stack:
        use(stack.s3_environ, monkeypatch)
        for word in ("coordinator", "worker"):
            environ = named(word).environ()
            assert {name: environ[name] for name in stack.s3_environ} == stack.s3_environ
        open_directory("s3://models/iris").write_bytes("hello", b"world")

    again = LocalStack(slots=1, s3_dir=directory / "s3")
    with again:
        use({**stack.s3_environ, "AWS_ENDPOINT_URL_S3": again.s3_environ["AWS_ENDPOINT_URL_S3"]}, monkeypatch)

        assert open_directory("s3://models/iris").read_bytes("hello") == b"world"


def test_a_directory_of_an_s3_server_that_others_can_enter_is_refused(directory: Path) -> None:
    directory.chmod(0o755)

    with pytest.raises(LocalStackError, match="keys of the S3 server"), LocalStack(slots=1, s3_dir=directory):
        pass


def test_a_killed_parent_leaves_no_s3_server(directory: Path) -> None:
    source = f"""
import pathlib, psutil, signal, runner
with runner.LocalStack(slots=1, s3_dir=pathlib.Path({str(directory / "s3")!r})):
    print(*[process.pid for process in psutil.Process().children(recursive=True)], flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 4

        parent.kill()

        wait_until(lambda: not any(is_running(pid) for pid in pids))
