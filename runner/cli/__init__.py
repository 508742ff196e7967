"""The `runner` command. Each subcommand is imported only when it is used, so that `runner --help` is quick."""

import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from runner.errors import (
    CheckpointDamagedError,
    JobCancelledError,
    RedisUnavailableError,
    RunnerError,
    StoreUnavailableError,
    WaitTimeoutError,
)

__all__ = ["main"]

_FAILED, _BAD_INPUT, _UNREACHABLE, _CANCELLED, _TIMED_OUT, _INTERRUPTED = 1, 2, 3, 4, 124, 130

# Command -> the module that has it, and its line in the help.
_COMMANDS = {
    "quickstart": ("quickstart", "Train a small model on this machine, and show what it left behind."),
    "submit": ("submit", "Submit a job and follow its log."),
    "status": ("jobs", "Show the state of a job and of its tasks."),
    "list": ("jobs", "List all jobs, oldest first."),
    "logs": ("jobs", "Print what the tasks of a job wrote."),
    "wait": ("jobs", "Wait until a job has ended; exit as it did."),
    "cancel": ("jobs", "Ask the coordinator to end a job."),
    "checkpoints": ("checkpoints", "List, verify and download the checkpoints of a job or a model_dir."),
    "up": ("services", "Run Valkey, a coordinator and slots on this machine."),
    "worker": ("services", "Offer slots on this machine."),
    "coordinator": ("services", "Run the coordinator."),
}


class _Failure(click.ClickException):
    """One of our errors: a sentence and an exit code instead of a traceback."""

    def __init__(self, error: RunnerError) -> None:
        super().__init__(str(error))
        self.exit_code = _exit_code(error)  # type: ignore[misc]  # click reads it from the instance too


class _Group(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"runner.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RunnerError as error:
            raise _Failure(error) from error
        except KeyboardInterrupt as interrupt:
            _say_interrupted(ctx, str(interrupt) or "Interrupted.")


def _say_interrupted(ctx: click.Context, message: str) -> NoReturn:
    if sys.stderr.isatty():
        click.echo(err=True)  # the terminal has written ^C
    click.echo(message, err=True)
    ctx.exit(_INTERRUPTED)


def _exit_code(error: RunnerError) -> int:
    if isinstance(error, RedisUnavailableError | StoreUnavailableError):
        return _UNREACHABLE
    if isinstance(error, JobCancelledError):
        return _CANCELLED
    if isinstance(error, WaitTimeoutError):
        return _TIMED_OUT
    if isinstance(error, CheckpointDamagedError):
        return _FAILED
    # What our errors share with the builtin ones says that the caller gave something that cannot be used.
    return _BAD_INPUT if isinstance(error, ValueError | TypeError | LookupError | PermissionError) else _FAILED


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="estimator-runner")
def main() -> None:
    """Run distributed TensorFlow training on Celery, Redis and one model_dir.

    Start with `runner quickstart`. For your own jobs keep `runner up` running in a terminal, and submit from another.

    \b
    Exit codes: 0 ok, 1 the job failed, 2 usage or bad input, 3 Redis, or the store of a model_dir, unreachable,
    4 cancelled, 124 wait timed out, 130 interrupted.
    """  # noqa: D301 - click's mark for a paragraph that is not to be wrapped
