"""TrainerProcess: one training process and all that it starts, from its spawn to the end of its process group."""

import logging
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pydantic

from runner.jobs.spec import Model
from workers.lines import read_lines
from workers.messages import REPORT_FD_VARIABLE, Report

__all__ = ["TrainerProcess"]

_MAX_LINE_BYTES = 16 * 1024
_MAX_REPORT_BYTES = 1024 * 1024
_DRAIN_SECS = 3.0

_logger = logging.getLogger(__name__)


class TrainerProcess:
    """A fresh interpreter in a session, and so a process group, of its own.

    Its standard input is a pipe that only this process holds: it ends with us, and that tells the trainer to end too.
    The callbacks are called from threads of this object.

    Args:
        command: The program and its arguments; speaks the protocol of `workers.messages`.
        env: The whole environment of the program, without RUNNER_REPORT_FD.
        on_output: Called with each line of standard output and error; a line has at most 16 KiB.
        on_report: Called with each report.
        on_exit: Called once, when the process has ended and the rest of its group was killed.

    Raises:
        OSError: The program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        on_output: Callable[[bytes], None],
        on_report: Callable[[Report], None],
        on_exit: Callable[[], None],
    ) -> None:
        self._on_output = on_output
        self._on_report = on_report
        self._on_exit = on_exit
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._ended_at = 0.0
        self._report_fd, child_fd = os.pipe()
        try:
            self._popen = _spawn(command, env, child_fd)
        except OSError:
            os.close(self._report_fd)
            raise
        finally:
            os.close(child_fd)
        self._readers = [_thread("output", self._read_output), _thread("reports", self._read_reports)]
        self._feeder = _thread("messages", self._feed)
        self._waiter = _thread("exit", self._wait)

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._popen.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended and the rest of its group was killed."""
        return self._ended.is_set()

    def send(self, message: Model) -> None:
        """Writes one line to standard input; returns at once, also if the process does not read."""
        self._messages.put(message.model_dump_json().encode() + b"\n")

    def terminate(self) -> None:
        """Sends SIGTERM to the process group; of no effect once the process has ended."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL to the process group; of no effect once the process has ended."""
        self._signal(signal.SIGKILL)

    def close(self) -> int:
        """Kills what is left of the process group, and reads what it still had to say; idempotent.

        Takes a few seconds at most: the lease of the task is not renewed meanwhile.

        Returns:
            The exit code; negative for the signal that ended the process.
        """
        self.kill()
        self._waiter.join()
        self._messages.put(None)
        for thread in (*self._readers, self._feeder):
            # A grandchild in a session of its own may keep a pipe open for ever: then its thread is left behind.
            thread.join(max(0.0, self._ended_at + _DRAIN_SECS - time.monotonic()))
        return self._popen.returncode

    def _signal(self, number: signal.Signals) -> None:
        # Once the process is reaped and its group empty, the id of the group may become somebody else's.
        if not self.has_ended:
            _kill_group(self.pid, number)

    def _wait(self) -> None:
        self._popen.wait()
        _kill_group(self.pid, signal.SIGKILL)
        self._ended_at = time.monotonic()
        self._ended.set()
        self._on_exit()

    def _read_output(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stdout:
            for line in read_lines(stdout.fileno(), max_bytes=_MAX_LINE_BYTES):
                self._on_output(line)

    def _read_reports(self) -> None:
        try:
            for line in read_lines(self._report_fd, max_bytes=_MAX_REPORT_BYTES):
                try:
                    report = Report.model_validate_json(line)
                except pydantic.ValidationError as error:
                    _logger.warning("Process %d sent a report that cannot be read: %s", self.pid, error)
                else:
                    self._on_report(report)
        finally:
            os.close(self._report_fd)

    def _feed(self) -> None:
        assert self._popen.stdin is not None
        try:
            with self._popen.stdin as stdin:
                while (message := self._messages.get()) is not None:
                    stdin.write(message)
                    stdin.flush()
        except BrokenPipeError:
            _logger.debug("Process %d no longer reads its input.", self.pid)


def _spawn(command: Sequence[str], env: Mapping[str, str], report_fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env={**env, REPORT_FD_VARIABLE: str(report_fd)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[report_fd],
        start_new_session=True,
    )


def _thread(name: str, target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=f"trainer-{name}", daemon=True)
    thread.start()
    return thread


def _kill_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
    except PermissionError:  # macOS says so of a group of zombies
        return
