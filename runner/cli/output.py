"""What the commands print, and how."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from runner.client import Job, JobStatus
from runner.jobs.state import LogLine

__all__ = [
    "NO_COORDINATOR",
    "follow",
    "print_json",
    "print_log_line",
    "print_table",
    "size_text",
    "time_span",
    "to_the_second",
]

NO_COORDINATOR = "No coordinator is running, and until one does nothing will change: start `runner coordinator`."

_POLL_SECS = 0.2
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_KIBI = 1024


def print_json(value: Any) -> None:
    """Prints one JSON document; times are RFC 3339."""
    click.echo(json.dumps(value, indent=2, default=str, allow_nan=False))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints aligned columns, never cut but at the end of a cell's first line: grep and awk read them as well."""
    texts = [list(headers), *([_one_line("" if cell is None else str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headers))]
    for row in texts:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _one_line(text: str) -> str:
    first, *more = text.splitlines() or [""]
    return f"{first} ..." if more else first


def print_log_line(line: LogLine) -> None:
    """Prints one line of a job's log, and which task wrote it."""
    click.echo(f"{line.place} | {line.line}")


def to_the_second(time: str | None) -> str:
    """A time in RFC 3339, for people."""
    return time.partition(".")[0].replace("T", " ") + "Z" if time else ""


def time_span(secs: float) -> str:
    """A time span to two places, for people: "40 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    secs = int(max(0.0, secs))  # clocks of two machines differ; rounded, it would be "2 min 60 s"
    if secs < _MINUTE:
        return f"{secs} s"
    if secs < _HOUR:
        return f"{secs // _MINUTE} min {secs % _MINUTE} s"
    if secs < _DAY:
        return f"{secs // _HOUR} h {secs % _HOUR // _MINUTE} min"
    return f"{secs // _DAY} d {secs % _DAY // _HOUR} h"


def size_text(size_bytes: int) -> str:
    """A size, for people: "17 bytes", "4.0 KiB", "1.5 GiB"."""
    size, unit = float(size_bytes), 0
    while size >= _KIBI and unit < len(_UNITS) - 1:
        size, unit = size / _KIBI, unit + 1
    return f"{size:.{min(unit, 1)}f} {_UNITS[unit]}"


def follow(job: Job, *, on_status: Callable[[JobStatus], None], on_line: Callable[[LogLine], None]) -> JobStatus:
    """Returns how a job ended once it has, and shows it until then.

    Args:
        job: The job.
        on_status: Called several times a second, the last time with the status that is returned.
        on_line: Called with each line of the log.
    """
    seen = "0"
    while True:
        # Asked before the lines are read: what a job wrote before it ended must not be missed.
        status = job.status()
        on_status(status)
        for line in job.logs(after=seen):
            on_line(line)
            seen = line.id
        if status.state.is_terminal:
            return status
        time.sleep(_POLL_SECS)
