"""One of the readers of `benchmarks.checkpoint`, without TensorFlow: reads a checkpoint, and counts what it reads.

`python -m benchmarks.checkpoint_reader`
"""

import os
import threading
from typing import Any

from benchmarks.checkpoint_usage import used
from benchmarks.turns import Turns
from runner.checkpoint.bundle.reader import BundleReader
from runner.storage.directory import Stored
from runner.storage.s3_directory import S3Directory

__all__ = ["main"]


class _CountingDirectory(S3Directory):
    """Counts the bytes that it hands out."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.read_bytes_count = 0
        self._count_lock = threading.Lock()

    def read(self, name: str) -> Stored:
        stored = super().read(name)
        self._count(len(stored.data))
        return stored

    def read_into(self, name: str, buffer: memoryview, *, offset: int = 0, tag: str | None = None) -> None:
        super().read_into(name, buffer, offset=offset, tag=tag)
        self._count(buffer.nbytes)

    def _count(self, size_bytes: int) -> None:
        with self._count_lock:
            self.read_bytes_count += size_bytes


def _read(target: dict[str, Any]) -> dict[str, float]:
    os.environ.update(target["environ"])
    directory = _CountingDirectory(target["url"])
    readers: list[BundleReader] = []

    def work() -> None:
        readers.append(BundleReader(directory, f"model.ckpt-{target['step']}"))
        readers[0].read()

    answer = used(work)
    return {**answer, "times_read": directory.read_bytes_count / readers[0].size_bytes}


def main() -> None:
    """Takes turns; each request names the checkpoint."""
    turns = Turns()
    while (request := turns.next()) is not None:
        turns.report(_read(request["target"]))


if __name__ == "__main__":
    main()
