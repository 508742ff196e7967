"""What a piece of work takes of time, of the processor, and of memory; needs nothing but Python."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["flushed", "peak_bytes", "used"]

_RESET_PEAK = "5"


@contextmanager
def _usage(answer: dict[str, float]) -> Iterator[None]:
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    yield
    answer["secs"] = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    answer["cpu_secs"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def used(work: Callable[[], Any]) -> dict[str, float]:
    """Does the work; `secs` by the clock, and `cpu_secs` of all threads of this process."""
    answer: dict[str, float] = {}
    with _usage(answer):
        work()
    return answer


def peak_bytes(work: Callable[[], Any]) -> int:
    """Does the work; the most memory that this process had in use meanwhile. On Linux only."""
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    work()
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))


def flushed(folder: Path) -> None:
    """Has the disk keep all files in a folder, and their names."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
