"""What the commands print, and how."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from runner.client import Job, JobStatus
from runner.jobs.state import LogLine

__all__ = ["NO_COORDINATOR", "follow", "print_json", "print_log_line", "print_table", "to_the_second"]

NO_COORDINATOR = "No coordinator is running, and until one does nothing will change: start `runner coordinator`."

_POLL_SECS = 0.2


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
