"""`runner submit`: one job, and its log."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from runner.cli.output import follow
from runner.client import Client, Job
from runner.jobs.spec import DEFAULT_QUEUE

__all__ = ["submit_command"]

_INTERRUPTED = 130


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
    for key, equals, value in pairs:
        if not key or not equals:
            raise click.BadParameter(f"{key + equals + value!r}: expected {parameter.metavar}.")
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
@click.option("--model-dir", required=True, help="Where the checkpoints go, on a disk that all workers share.")
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Tasks beside the chief.")
@click.option("--params", metavar="JSON|@FILE", callback=_params, help="Passed to the entry.")
@click.option("--param", metavar="KEY=JSON", multiple=True, callback=_json_pairs, help="One of them; may be repeated.")
@click.option("--name", help="First part of the job's id.")
@click.option("--queue", default=DEFAULT_QUEUE, show_default=True, help="The slots that listen on it.")
@click.option("--priority", type=int, default=0, show_default=True, help="Jobs of a higher one start first.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, callback=_pairs, help="For the tasks; may be repeated.")
@click.option("--max-failures", type=click.IntRange(min=0), default=3, show_default=True, help="To recover from.")
@click.option("--detach", is_flag=True, help="Print the job's id and return.")
def submit_command(*, detach: bool, params: dict[str, Any], param: dict[str, Any], **options: Any) -> None:
    """Submit the job that ENTRY, "module:function", makes, and follow its log.

    The working directory goes with the job as its code. Ctrl-C detaches; the job goes on.
    """
    with Client() as client:
        job = client.submit(options.pop("entry"), params={**params, **param}, **options)
        if detach:
            click.echo(job.id)
            return
        click.echo(f"Submitted {job.id}. Ctrl-C detaches, the job goes on.", err=True)
        _follow(job)


def _follow(job: Job) -> None:
    try:
        status = follow(job)
    except KeyboardInterrupt:
        click.echo(
            f"\nDetached; the job goes on. `runner logs -f {job.id}` comes back, `runner cancel {job.id}` ends it.",
            err=True,
        )
        sys.exit(_INTERRUPTED)
    status.raise_for_status()
    click.echo(f"Job {job.id} has {status.state}: {status.message}", err=True)
