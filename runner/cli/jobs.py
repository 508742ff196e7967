"""The commands that look at jobs, and the one that ends them."""

import json
from datetime import UTC, datetime

import click

from runner.cli.output import NO_COORDINATOR, print_json, print_log_line, print_table, time_span, to_the_second
from runner.client import Client, JobStatus
from runner.jobs.state import Saves

__all__ = ["cancel_command", "list_command", "logs_command", "status_command", "wait_command"]

_job = click.argument("job_id", metavar="JOB")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("status")
@_job
@_json
def status_command(job_id: str, *, as_json: bool) -> None:
    """Show the state of JOB, of its tasks, and how it came there."""
    with Client() as client:
        status = client.get(job_id).status()
    if as_json:
        click.echo(status.model_dump_json(indent=2))
    else:
        _print_status(status)


def _print_status(status: JobStatus) -> None:
    progress = "" if status.step is None else f"step {status.step}"
    if status.loss is not None:
        progress += f", loss {status.loss:.6g}"
    facts = {
        "job": status.id,
        "state": f"{status.state} ({status.reason}): {status.message}",
        "progress": progress,
        "checkpoint": _checkpoint(status.saves),
        "save error": status.saves.error,
        "metrics": f"\n{'':<12}".join(f"{name} {value:.6g}" for name, value in (status.metrics or {}).items()),
        "model_dir": status.model_dir,
        "entry": status.entry,
        "generation": f"{status.generation}, failures {status.failures} of {status.max_failures}",
    }
    for name, value in facts.items():
        if value:
            click.echo(f"{name + ':':<12}{value}")
    if not status.has_coordinator and not status.state.is_terminal:
        click.echo(NO_COORDINATOR)
    click.echo()
    print_table(
        ["TASK", "STATE", "STEP", "HOST", "PID", "MESSAGE"],
        [(task.place, task.state, task.step, task.host, task.pid, task.message) for task in status.tasks],
    )
    click.echo()
    print_table(
        ["TIME", "STATE", "REASON", "GENERATION", "MESSAGE"],
        [
            (to_the_second(event.time), event.state, event.reason, event.generation, event.message)
            for event in status.events
        ],
    )


def _checkpoint(saves: Saves) -> str:
    if saves.step is None or saves.time is None:
        return ""
    age_secs = (datetime.now(UTC) - datetime.fromisoformat(saves.time)).total_seconds()
    return f"step {saves.step}, published {time_span(age_secs)} ago"


@click.command("list")
@_json
def list_command(*, as_json: bool) -> None:
    """List all jobs, oldest first."""
    with Client() as client:
        statuses = [job.status() for job in client.list()]
    if as_json:
        # By way of text, which has no NaN: as objects they would keep it.
        print_json([json.loads(status.model_dump_json(exclude={"tasks", "events"})) for status in statuses])
        return
    print_table(
        ["JOB", "STATE", "REASON", "STEP", "SUBMITTED", "MODEL_DIR"],
        [
            (status.id, status.state, status.reason, status.step, to_the_second(status.submitted_at), status.model_dir)
            for status in statuses
        ],
    )


@click.command("logs")
@_job
@click.option("-f", "--follow", is_flag=True, help="Wait for more until the job has ended.")
@_json
def logs_command(job_id: str, *, follow: bool, as_json: bool) -> None:
    """Print what the tasks of JOB wrote; as JSON, one object a line."""
    with Client() as client:
        for line in client.get(job_id).logs(follow=follow):
            if as_json:
                click.echo(json.dumps({**line._asdict(), "place": str(line.place)}))
            else:
                print_log_line(line)


@click.command("wait")
@_job
@click.option(
    "--timeout", "timeout_secs", type=click.FloatRange(min=0), metavar="SECS", help="Give up after that long."
)
@_json
def wait_command(job_id: str, *, timeout_secs: float | None, as_json: bool) -> None:
    """Return when JOB has ended, with an exit code that says how.

    0 it succeeded, 1 it failed, 4 it was cancelled, 124 it goes on after the time-out.
    """
    with Client() as client:
        status = client.get(job_id).wait(timeout_secs)
    if as_json:
        click.echo(status.model_dump_json(indent=2))
    status.raise_for_status()
    if not as_json:
        click.echo(f"Job {job_id} has {status.state}: {status.message}")


@click.command("cancel")
@_job
def cancel_command(job_id: str) -> None:
    """Ask the coordinator to end JOB; its latest checkpoint stays."""
    with Client() as client:
        job = client.get(job_id)
        state = job.status().state
        job.cancel()
    if state.is_terminal:
        click.echo(f"Job {job_id} has already ended: {state}.")
    else:
        click.echo(f"Job {job_id} is asked to end; `runner status {job_id}` shows when it has.")
