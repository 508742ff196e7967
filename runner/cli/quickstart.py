"""`runner quickstart`: the whole path on this machine, from an empty directory to a trained model."""

import shlex
import signal
from collections.abc import Callable

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from runner.checkpoint.listing import list_checkpoints
from runner.cli.output import follow
from runner.client import Client, Job, JobStatus
from runner.errors import RedisUnavailableError
from runner.jobs.state import LogLine, Section, State
from runner.local import LocalStack
from runner.storage.retry import Retry
from runner.storage.urls import open_directory, resolve_model_dir

__all__ = ["quickstart_command"]

_ENTRY = "runner.quickstart.iris:experiment"
_HIGHLIGHTS = ("Restoring parameters from", "Saving checkpoints for")
_PHASES = {
    Section.STARTUP: "starting TensorFlow",
    Section.FIRST_STEP: "building the graph",
    Section.TRAIN: "training",
    Section.EVAL: "evaluating",
    Section.CHECKPOINT: "saving",
    Section.UPLOAD: "uploading",
}
_PHASE_WIDTH = max(map(len, _PHASES.values()))
_TAIL_LINES = 20
_RETRY_SECS = 10.0


@click.command("quickstart")
@click.option("--model-dir", default="models/iris", show_default=True, help="Where the checkpoints go.")
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True, help="Tasks beside the chief.")
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True, help="Train up to this step.")
@click.option("--verbose", is_flag=True, help="Show all that the tasks print, TensorFlow's messages included.")
def quickstart_command(model_dir: str, workers: int, steps: int, *, verbose: bool) -> None:
    """Train a classifier of iris flowers with a chief and workers on this machine.

    Starts everything it needs and stops it again. On a model_dir that has a checkpoint the training goes on from there.
    """
    open_directory(resolve_model_dir(model_dir), retry=Retry(budget_secs=_RETRY_SECS)).check_writable()
    screen = _Screen(steps, verbose=verbose)
    if (step := _latest_step(model_dir) or 0) >= steps:
        screen.say(f"{model_dir} is already at step {step}; nothing to train. Use --steps {2 * step} to go on.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        screen.say(f"Starting Valkey, a coordinator and {_count(1 + workers, 'slot')} ...")
        stack = LocalStack(1 + workers)
        with stack as client:
            job = _submit(client, screen, model_dir=model_dir, workers=workers, steps=steps)
            status = screen.watch(job, stack.check)
            if status.state is not State.SUCCEEDED:
                _print_end_of_log(job, screen)
            status.raise_for_status()
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(_what_is_left(model_dir)) from interrupt
    _print_results(status, model_dir, is_trained=step < steps)


def _latest_step(model_dir: str) -> int | None:
    checkpoints = list_checkpoints(resolve_model_dir(model_dir))
    steps = [info.step for info in checkpoints if info.latest] or [info.step for info in checkpoints]
    return steps[-1] if steps else None


def _what_is_left(model_dir: str) -> str:
    step = _latest_step(model_dir)
    if step is None:
        return f"Stopped; no checkpoint in {model_dir} yet."
    return f"Stopped; latest checkpoint in {model_dir}: step {step}. Run it again to go on from there."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _submit(client: Client, screen: "_Screen", *, model_dir: str, workers: int, steps: int) -> Job:
    params = {"max_steps": steps, "hidden_units": [10, 10]}
    job = client.submit(_ENTRY, params=params, model_dir=model_dir, workers=workers, name="quickstart")
    tasks = "a chief" + (f" and {_count(workers, 'worker')}" if workers else "")
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
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"))
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as live:
            task = live.add_task("", total=self._steps, facts="")

            def show(status: JobStatus) -> None:
                check()
                self._show(status, live, task)

            try:
                return follow(job, on_status=show, on_line=self._show_line)
            except RedisUnavailableError:
                check()  # says which process has ended, and why
                raise

    def _show(self, status: JobStatus, live: Progress, task: TaskID) -> None:
        phase, facts = _phase(status), _facts(status, self._steps)
        live.update(task, description=f"{phase:<{_PHASE_WIDTH}}", completed=status.step or 0, facts=facts)
        if not self._console.is_terminal and self._shown != (phase, status.step):
            self._shown = (phase, status.step)
            self.say(f"{phase}: {facts}" if facts else phase)

    def _show_line(self, line: LogLine) -> None:
        if self.verbose:
            self.say(f"{line.place} | {line.line}")
        elif str(line.place) == "chief:0" and any(text in line.line for text in _HIGHLIGHTS):
            self.say(line.line.removeprefix("INFO:tensorflow:"))


def _phase(status: JobStatus) -> str:
    if status.state.is_terminal:
        return "done" if status.state is State.SUCCEEDED else status.state.lower()
    section = status.tasks[0].section if status.tasks else None
    return _PHASES[section] if section else "waiting for slots"


def _facts(status: JobStatus, steps: int) -> str:
    if status.step is None:
        return ""
    rate = "" if status.steps_per_sec is None else f", {status.steps_per_sec:.0f} steps/s"
    loss = "" if status.loss is None else f", loss {status.loss:.4f}"
    return f"step {status.step}/{steps}{rate}{loss}"


def _print_results(status: JobStatus, model_dir: str, *, is_trained: bool) -> None:
    done = "Trained to" if is_trained else "At"
    click.echo(f"\n{done} step {status.step}. Evaluation: " + _join_metrics(status.metrics or {}))
    click.echo(f"\nFiles in {status.model_dir}:")
    for entry in open_directory(status.model_dir).list(recursive=True):
        if not entry.name.startswith(".runner/"):
            click.echo(f"  {entry.size_bytes:>9,}  {entry.name}")
    click.echo("\nWhat to try next:")
    model_dir = shlex.quote(model_dir)
    steps = 2 * (status.step or 0)
    click.echo(f"  runner quickstart --model-dir {model_dir} --steps {steps}   goes on from step {status.step}")
    click.echo(f"  pip install tensorboard && tensorboard --logdir {model_dir}")
    click.echo("  runner up --slots 2   and, in another terminal, your own experiment:")
    click.echo("  runner submit my_module:experiment --model-dir models/mine --workers 1")


def _join_metrics(metrics: dict[str, float]) -> str:
    first = [f"accuracy {metrics['accuracy']:.3f}"] if "accuracy" in metrics else []
    return ", ".join([*first, *(f"{name} {value:.4g}" for name, value in metrics.items() if name != "accuracy")])
