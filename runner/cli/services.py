"""The commands that run until they are stopped: a worker, the coordinator, or the whole stack."""

import contextlib
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from runner.client import Client
from runner.coordinator.coordinator import Coordinator
from runner.coordinator.dispatch import CeleryDispatcher
from runner.errors import RedisUnavailableError, SettingsError
from runner.jobs.spec import DEFAULT_QUEUE
from runner.jobs.store import JobStore
from runner.local import S3_BUCKET, LocalStack
from runner.settings import Settings
from workers.celery import make_app, run_worker

__all__ = ["coordinator_command", "up_command", "worker_command"]

_CHECK_SECS = 0.5
_S3_DIR = "~/.local/share/runner/s3"

Command = TypeVar("Command", bound=Callable[..., Any])


def _slots(default: int) -> Callable[[Command], Command]:
    slots = click.IntRange(min=1)
    return click.option("--slots", type=slots, default=default, show_default=True, help="Tasks at a time.")


@click.command("worker")
@_slots(1)
@click.option("--queue", default=DEFAULT_QUEUE, show_default=True, help="The jobs it serves.")
def worker_command(slots: int, queue: str) -> None:
    """Offer slots on this machine, each for one training process.

    TERM or Ctrl-C ends its training processes and then the worker; the coordinator starts them again elsewhere.
    """
    _log_to_stderr()
    settings = Settings.from_environ()
    # Settings that cannot be used are said here in a sentence, and in a traceback of Celery's later.
    store = JobStore(settings)
    try:
        store.ping()
    except RedisUnavailableError as error:
        click.echo(f"{error}\nThe worker waits for it.", err=True)
    store.close()
    sys.exit(run_worker(make_app(settings), slots=slots, queue=queue))


@click.command("coordinator")
def coordinator_command() -> None:
    """Run the coordinator: it starts jobs, and starts them again when a task is lost."""
    _log_to_stderr()
    settings = Settings.from_environ()
    store, dispatcher = JobStore(settings), CeleryDispatcher(settings)
    # Every write of a coordinator is whole or not at all, so it can be interrupted anywhere.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        Coordinator(store, dispatcher, settings=settings).run(threading.Event())
    dispatcher.close()
    store.close()


@click.command("up")
@_slots(2)
@click.option(
    "--s3",
    "s3_dir",
    is_flag=False,
    flag_value=_S3_DIR,
    metavar="[DIRECTORY]",
    help=f"Run an S3 server, too, which keeps its objects in DIRECTORY, by default {_S3_DIR}.",
)
def up_command(slots: int, s3_dir: str | None) -> None:
    """Run Valkey, a coordinator and slots on this machine until Ctrl-C or TERM.

    Other commands of this user find them without any settings. Jobs are forgotten in the end, their model_dirs stay.
    """
    settings = Settings.from_environ()
    if settings.redis_url != f"unix://{settings.runtime_dir}/redis.sock":
        raise SettingsError(
            f"RUNNER_REDIS_URL is set to {settings.redis_url}, and other commands would look there. Unset it."
        )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    ended: list[str] = []
    with contextlib.suppress(KeyboardInterrupt):
        s3_path = Path(s3_dir).expanduser().absolute() if s3_dir else None
        stack = LocalStack(slots, directory=settings.runtime_dir, s3_dir=s3_path)
        with stack as client:
            click.echo(f"Up with {slots} slot{'s' * (slots != 1)}; logs in {settings.runtime_dir}.")
            click.echo("In another terminal: runner submit module:function --model-dir DIRECTORY")
            if s3_path:
                _show_s3(stack, s3_path)
            click.echo("Ctrl-C stops everything.")
            try:
                _watch(stack)
            finally:
                ended = _unfinished(client)
    click.echo(f"Stopped, and with it {', '.join(ended)}." if ended else "Stopped.")


def _show_s3(stack: LocalStack, s3_dir: Path) -> None:
    click.echo(f"S3 keeps its objects in {s3_dir}. In every terminal that uses s3://{S3_BUCKET}/...:")
    for name, value in stack.s3_environ.items():
        click.echo(f"  export {name}={shlex.quote(value)}")


def _watch(stack: LocalStack) -> None:
    never = threading.Event()
    while not never.wait(_CHECK_SECS):
        stack.check()


def _unfinished(client: Client) -> list[str]:
    """The ids of the jobs that the end of the stack will end."""
    try:
        return [job.id for job in client.list() if not job.status().state.is_terminal]
    except RedisUnavailableError:
        return []


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
