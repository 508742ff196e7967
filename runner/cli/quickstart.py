"""`runner quickstart`: the whole path on this machine, from an empty directory to a trained model."""

import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from runner.client import Client, Job, JobStatus
from runner.errors import RunnerError
from runner.jobs.state import LogLine, State
from runner.local import LocalStack

__all__ = ["quickstart_command"]

_ENTRY = "runner.quickstart.iris:experiment"
_HIGHLIGHTS = ("Restoring parameters from", "Saving checkpoints for")
_REFRESH_SECS = 0.2
_TAIL_LINES = 20
_INTERRUPTED = 130


@click.command("quickstart")
@click.option("--model-dir", default="models/iris", show_default=True, help="Where the checkpoints go.")
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True, help="Tasks beside the chief.")
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True, help="Train up to this step.")
@click.option("--verbose", is_flag=True, help="Show all that the tasks print, TensorFlow's messages included.")
def quickstart_command(model_dir: str, workers: int, steps: int, *, verbose: bool) -> None:
    """Train a classifier of iris flowers with a chief and workers on this machine.

    Starts everything it needs and stops it again. On a model_dir that has a checkpoint the training goes on from there.
    """
    screen = _Screen(steps, verbose=verbose)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        screen.say(f"Starting Valkey, a coordinator and {1 + workers} slots ...")
        stack = LocalStack(1 + workers)
        with stack as client:
            job = _submit(client, screen, model_dir=model_dir, workers=workers, steps=steps)
            status = screen.watch(job, stack.check)
            if status.state is not State.SUCCEEDED:
                _print_end_of_log(job, screen)
            status.raise_for_status()
    except KeyboardInterrupt:
        click.echo(f"Stopped. Run it again to go on from the latest checkpoint in {model_dir}.", err=True)
        sys.exit(_INTERRUPTED)
    _print_results(status, model_dir, steps)


def _submit(client: Client, screen: "_Screen", *, model_dir: str, workers: int, steps: int) -> Job:
    params = {"max_steps": steps, "hidden_units": [10, 10]}
    job = client.submit(_ENTRY, params=params, model_dir=model_dir, workers=workers, name="quickstart")
    tasks = "a chief" + (f" and {workers} worker{'s' * (workers > 1)}" if workers else "")
    screen.say(f"Job {job.id}: {tasks}, model_dir {job.status().model_dir}")
    return job


def _print_end_of_log(job: Job, screen: "_Screen") -> None:
    for line in [] if screen.verbose else list(job.logs())[-_TAIL_LINES:]:
        click.echo(f"{line.place} | {line.line}", err=True)


class _Screen:
    """What a person sees while the job runs: a live line on a terminal, plain lines elsewhere."""

    def __init__(self, steps: int, *, verbose: bool) -> None:
        self.verbose = verbose
        self._steps = steps
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self._shown: tuple[str, int | None] = ("", None)

    def say(self, text: str) -> None:
        """Prints one line, above the live one."""
        self._console.print(text)

    def watch(self, job: Job, check: Callable[[], None]) -> JobStatus:
        """Returns when the job has ended; calls `check` meanwhile, which may raise to end the wait."""
        ended = threading.Event()
        logs = threading.Thread(target=self._follow, args=[job, ended], name="logs", daemon=True)
        logs.start()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"))
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as live:
            task = live.add_task("starting", total=self._steps, facts="")
            while not (status := job.status()).state.is_terminal:
                check()
                self._show(status, live, task)
                ended.wait(_REFRESH_SECS)
            logs.join()
            self._show(status, live, task)
        return status

    def _show(self, status: JobStatus, live: Progress, task: TaskID) -> None:
        phase = str(status.tasks[0].section or status.state) if status.tasks else str(status.state)
        facts = _facts(status, self._steps)
        live.update(task, description=f"{phase:<12}", completed=status.step or 0, facts=facts)
        if not self._console.is_terminal and self._shown != (phase, status.step):
            self._shown = (phase, status.step)
            self.say(f"{phase}: {facts}" if facts else phase)

    def _follow(self, job: Job, ended: threading.Event) -> None:
        try:
            for line in job.logs(follow=True):
                self._show_line(line)
        except RunnerError as error:  # the stack is gone, and the main thread says why
            self.say(f"No more log lines: {error}")
        finally:
            ended.set()

    def _show_line(self, line: LogLine) -> None:
        if self.verbose:
            self.say(f"{line.place} | {line.line}")
        elif str(line.place) == "chief:0" and any(text in line.line for text in _HIGHLIGHTS):
            self.say(line.line.removeprefix("INFO:tensorflow:"))


def _facts(status: JobStatus, steps: int) -> str:
    if status.step is None:
        return ""
    rate = "" if status.steps_per_sec is None else f", {status.steps_per_sec:.0f} steps/s"
    loss = "" if status.loss is None else f", loss {status.loss:.4f}"
    return f"step {status.step}/{steps}{rate}{loss}"


def _print_results(status: JobStatus, model_dir: str, steps: int) -> None:
    metrics = status.metrics or {}
    click.echo(f"\nTrained to step {status.step}. Evaluation: " + _join_metrics(metrics))
    click.echo(f"\nFiles in {status.model_dir}:")
    for path in sorted(Path(status.model_dir).rglob("*")):
        relative = path.relative_to(status.model_dir)
        if path.is_file() and relative.parts[0] != ".runner":
            click.echo(f"  {path.stat().st_size:>9,}  {relative}")
    click.echo("\nWhat to try next:")
    model_dir = shlex.quote(model_dir)
    click.echo(f"  runner quickstart --model-dir {model_dir} --steps {2 * steps}   goes on from step {status.step}")
    click.echo(f"  tensorboard --logdir {model_dir}")
    click.echo("  runner up --slots 2   and, in another terminal, your own experiment:")
    click.echo("  runner submit my_module:experiment --model-dir models/mine --workers 1")


def _join_metrics(metrics: dict[str, float]) -> str:
    first = [f"accuracy {metrics['accuracy']:.3f}"] if "accuracy" in metrics else []
    return ", ".join([*first, *(f"{name} {value:.4g}" for name, value in metrics.items() if name != "accuracy")])
