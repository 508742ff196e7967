"""`runner submit`: one job, and its log."""

import json
import re
from pathlib import Path
from typing import Any

import click

from runner.cli.log_filter import LogFilter
from runner.cli.output import NO_COORDINATOR, follow, print_log_line
from runner.client import Client, Job, JobStatus
from runner.jobs.spec import DEFAULT_QUEUE
from runner.jobs.state import LogLine, Reason, State

__all__ = ["submit_command"]

_NAME = re.compile(r"\w*")


def _params(_: click.Context, __: click.Parameter, value: str | None) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        text = Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
        params = json.loads(text)
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{value!r} is not JSON, nor @ and a file of it: {error}.") from error
    if not isinstance(params, dict):
        raise click.BadParameter(f'{value!r}: expected a JSON object like {{"hidden_units": [10, 10]}}.')
    return params


def _pairs(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for key, equals, _value in pairs:
        if not key or not equals:
            # No more than the name: the rest may be a secret.
            raise click.BadParameter(f"{_NAME.findall(key)[0]!r}: expected {parameter.metavar}.")
    return {key: value for key, _, value in pairs}


def _json_pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    params = {}
    for key, text in _pairs(context, parameter, values).items():
        try:
            params[key] = json.loads(text)
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is not JSON; a string needs quotes: '{key}=\"text\"'.") from error
    return params


@click.command("submit")
@click.argument("entry")
@click.option(
    "--model-dir",
    required=True,
    help="Where the checkpoints go: a directory that all workers share, or a URL such as s3://bucket/models/iris.",
)
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Tasks beside the chief.")
@click.option("--params", metavar="JSON|@FILE", callback=_params, help="Passed to the entry.")
@click.option("--param", metavar="KEY=JSON", multiple=True, callback=_json_pairs, help="One of them; may be repeated.")
@click.option("--name", help="First part of the job's id.")
@click.option("--queue", default=DEFAULT_QUEUE, show_default=True, help="The slots that listen on it.")
@click.option("--priority", type=int, default=0, show_default=True, help="Jobs of a higher one start first.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, callback=_pairs, help="For the tasks; may be repeated.")
@click.option("--max-failures", type=click.IntRange(min=0), default=3, show_default=True, help="To recover from.")
@click.option("--code-dir", help="The directory that holds ENTRY's code; by default the working directory.")
@click.option("--detach", is_flag=True, help="Print the job's id and return.")
@click.option("--verbose", is_flag=True, help="Show all that all tasks print, TensorFlow's messages included.")
def submit_command(
    *, detach: bool, verbose: bool, params: dict[str, Any], param: dict[str, Any], **options: Any
) -> None:
    """Submit the job that ENTRY, "module:function", makes, and follow its log.

    The code directory goes with the job. Ctrl-C detaches; the job goes on.
    """
    with Client() as client:
        job = client.submit(options.pop("entry"), params={**params, **param}, **options)
        if detach:
            click.echo(job.id)
            _print_code(job)
            return
        click.echo(f"Submitted {job.id}. Ctrl-C detaches, the job goes on.", err=True)
        _print_code(job)
        _follow(job, verbose=verbose)


def _print_code(job: Job) -> None:
    if job.code is None:
        return
    files, size_bytes, secrets = job.code
    left_out = f"; left out as secret: {', '.join(secrets)}" if secrets else ""
    click.echo(f"Code: {files} file{'s' * (files != 1)}, {-(-size_bytes // 1024)} KiB{left_out}", err=True)


def _follow(job: Job, *, verbose: bool) -> None:
    try:
        status = follow(job, on_status=_Changes(), on_line=print_log_line if verbose else _Highlights())
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"Detached; the job goes on. `runner logs -f {job.id}` comes back, `runner cancel {job.id}` ends it."
        ) from interrupt
    if status.state is State.FAILED and not verbose:
        click.echo(f"`runner logs {job.id}` has all that its tasks printed.", err=True)
    status.raise_for_status()
    _print_result(job, status)


class _Changes:
    """Says each change of a job's state in one line."""

    def __init__(self) -> None:
        self._said: tuple[str, ...] = ()
        self._has_coordinator = True

    def __call__(self, status: JobStatus) -> None:
        if status.state.is_terminal:
            return
        change = (status.state, status.reason, status.message)
        if change != self._said and status.reason is not Reason.SUBMITTED:
            click.echo(f"{status.state}: {status.message}", err=True)
        self._said = change
        if self._has_coordinator and not status.has_coordinator:
            click.echo(NO_COORDINATOR, err=True)
        self._has_coordinator = status.has_coordinator


class _Highlights:
    """Prints the lines of a log that are worth it."""

    def __init__(self) -> None:
        self._filter = LogFilter()

    def __call__(self, line: LogLine) -> None:
        if self._filter.passes(line):
            print_log_line(line)


def _print_result(job: Job, status: JobStatus) -> None:
    click.echo(f"Job {job.id} has {status.state}: {status.message}", err=True)
    for name, value in (status.metrics or {}).items():
        click.echo(f"  {name} {value:.6g}", err=True)
    for info in job.checkpoints():
        if info.latest:
            click.echo(f"Latest checkpoint: {info.prefix}", err=True)
