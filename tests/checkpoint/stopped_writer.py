"""Processes that save a checkpoint and are killed amid it: `python -m tests.checkpoint.stopped_writer`.

Each line of the input asks for one such process, forked from this one, which has all modules imported and no thread of
its own; each line of the output tells how it ended.
"""

import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np

# Imported before any fork: they take longer than a save.
from runner.checkpoint.fence import Fence
from runner.checkpoint.retention import Retention
from runner.checkpoint.writer import CheckpointWriter
from runner.storage.directory import Condition, Directory, Entry, Stored, Upload
from runner.storage.urls import open_directory
from tests.checkpoint.sources import ArraySource

__all__ = ["state_at"]

T = TypeVar("T")

_SIZE = 9_000_000
"""Of the large tensor, in bytes: several parts on every store."""


def state_at(step: int) -> dict[str, np.ndarray[Any, Any]]:
    """What is saved at that step: no two steps have a byte of the large tensor in common."""
    return {
        "global_step": np.asarray(step, np.int64),
        "large": np.full(_SIZE // 4, step * 0x01010101, np.int32),
        "small": np.arange(step, step + 5, dtype=np.float64),
    }


class _Stop:
    """Kills its own process before one of its requests, which is after the one before."""

    def __init__(self, at: int | None) -> None:
        self._at = at
        self._counter = itertools.count(1)
        self._lock = threading.Lock()

    def do(self, request: Callable[[], T]) -> T:
        with self._lock:
            is_last = next(self._counter) == self._at
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return request()


class _StoppingUpload(Upload):
    def __init__(self, upload: Upload, stop: _Stop) -> None:
        super().__init__(upload.name, upload.size_bytes, part_size_bytes=upload.part_size_bytes)
        self._upload = upload
        self._stop = stop

    def put(self, index: int, pieces: Sequence[memoryview]) -> None:
        self._stop.do(lambda: self._upload.put(index, pieces))

    def commit(self) -> str:
        return self._stop.do(self._upload.commit)

    def abort(self) -> None:
        self._upload.abort()


class _StoppingDirectory(Directory):
    """A directory, but for the process that dies at one of the requests that change something."""

    def __init__(self, directory: Directory, stop: _Stop) -> None:
        self._directory = directory
        self._stop = stop
        self.url, self.locks, self.conditional = directory.url, directory.locks, directory.conditional

    def check_writable(self) -> None:
        self._directory.check_writable()

    def read(self, name: str) -> Stored:
        return self._directory.read(name)

    def read_if_changed(self, name: str, tag: str) -> Stored | None:
        return self._directory.read_if_changed(name, tag)

    def read_into(self, name: str, buffer: memoryview, *, offset: int = 0, tag: str | None = None) -> None:
        self._directory.read_into(name, buffer, offset=offset, tag=tag)

    def stat(self, name: str) -> Entry | None:
        return self._directory.stat(name)

    def list(self, folder: str = "", *, recursive: bool = False) -> list[Entry]:
        return self._directory.list(folder, recursive=recursive)

    def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
        return self._stop.do(lambda: self._directory.write_bytes(name, data, only=only))

    def upload(self, name: str, size_bytes: int, *, only: Condition | None = None) -> Upload:
        upload = self._stop.do(lambda: self._directory.upload(name, size_bytes, only=only))
        return _StoppingUpload(upload, self._stop)

    def delete(self, name: str) -> None:
        self._stop.do(lambda: self._directory.delete(name))

    def locked(self) -> AbstractContextManager[None]:
        return self._directory.locked()

    def abort_uploads(self, *, older_than: timedelta) -> int:
        return self._stop.do(lambda: self._directory.abort_uploads(older_than=older_than))


def _save(url: str, step: int, at: int | None) -> None:
    directory = _StoppingDirectory(open_directory(url), _Stop(at))
    fence = Fence(directory, owner="iris", generation=step, retention=Retention(max_to_keep=2))
    fence.raise_()
    writer = CheckpointWriter(directory, fence)
    writer.start(ArraySource(state_at(step)), step=step, graph=b"\x12\x00")
    writer.wait()
    (outcome,) = writer.outcomes()
    if outcome.error is not None:
        raise outcome.error


def _run(url: str, step: int, at: int | None) -> int:
    """Saves in a process of its own, and returns how that ended: 0 or -SIGKILL."""
    if (pid := os.fork()) == 0:
        try:
            _save(url, step, at)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    """Answers each line of the input."""
    for line in sys.stdin:
        sys.stdout.write(f"{_run(**json.loads(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
