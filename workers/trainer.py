"""The training process of one task: `python -m workers.trainer`, started by a supervisor.

It loads TensorFlow, imports the entry, waits for the roster, trains, and on the chief evaluates. See `workers.messages`
for what it reads and writes.
"""

import importlib
import inspect
import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any, NoReturn

import numpy as np

from runner.checkpoint.writer import SaveListener
from runner.cluster import ClusterSpec, Place, TaskType, tf_config
from runner.errors import EntryError, InvalidExperimentError, StaleGenerationError
from runner.jobs.fields import rfc3339, utc_now
from runner.jobs.records import GenerationRecord, write_generation
from runner.jobs.state import Outcome, OutcomeKind, Progress, Saves, Section
from runner.storage.urls import is_local, open_directory, resolve_model_dir
from workers.messages import REPORT_FD_VARIABLE, Cluster, Report, TrainerTask
from workers.outcomes import outcome_of

__all__ = ["main"]

_logger = logging.getLogger(__name__)

_EXIT_SECS = 20.0
"""How long threads that the user's code left behind may delay the end of a process whose outcome is reported."""


class _Reporter:
    """Writes Report lines; the supervisor reads until the process ends. Thread-safe: saves end in other threads.

    Args:
        pipe: To the supervisor.
    """

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._progress = Progress()

    def outcome(self, outcome: Outcome) -> None:
        with self._lock:
            self._send(Report(outcome=outcome))

    def progress(self, section: Section, step: int | None = None, **values: Any) -> None:
        with self._lock:
            self._progress = Progress(section=section, step=step, saves=self._progress.saves, **values)
            self._send(Report(progress=self._progress))

    def saved(self, step: int) -> None:
        self.update(saves=Saves(step=step, time=rfc3339(utc_now())))

    def save_failed(self, step: int, error: Exception) -> None:
        saves = self._progress.saves or Saves()
        message = f"the checkpoint of step {step} was not saved: {error}"
        self.update(saves=saves.model_copy(update={"error": message}))

    def update(self, **changed: Any) -> None:
        with self._lock:
            self._progress = self._progress.model_copy(update=changed)
            self._send(Report(progress=self._progress))

    def _send(self, report: Report) -> None:
        self._pipe.write(report.model_dump_json(exclude_none=True) + "\n")
        self._pipe.flush()


def main() -> None:
    """Does the task that the supervisor writes to standard input, and ends the process."""
    reporter = _Reporter(os.fdopen(int(os.environ.pop(REPORT_FD_VARIABLE)), "w", encoding="utf-8"))
    # Unbuffered: a thread that waits in a buffered read would hold a lock that the end of the interpreter needs.
    messages = os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    task = TrainerTask.model_validate_json(messages.readline())
    clusters: queue.Queue[Cluster] = queue.Queue()
    threading.Thread(target=_follow_supervisor, args=(messages, clusters), name="supervisor", daemon=True).start()
    try:
        outcome = _Trainer(task, reporter, clusters.get).run()
    except BaseException as error:  # noqa: BLE001 - the process boundary: whatever it is, the supervisor is told
        traceback.print_exc()
        outcome = outcome_of(error, is_ready=False)
    reporter.outcome(outcome)
    _end(outcome)


def _follow_supervisor(messages: IO[bytes], clusters: "queue.Queue[Cluster]") -> None:
    while line := messages.readline():
        clusters.put(Cluster.model_validate_json(line))
    # The supervisor is gone: nobody would end this process, or those that it started.
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _end(outcome: Outcome) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    if outcome.kind is not OutcomeKind.COMPLETED:
        # At once, without a word to other threads: the peers in a collective wait for this process until it is gone.
        os._exit(1)
    timer = threading.Timer(_EXIT_SECS, os._exit, args=(0,))
    timer.daemon = True
    timer.start()
    sys.exit(0)


class _Trainer(SaveListener):
    """One task.

    Args:
        task: What to do.
        reporter: Told of the progress.
        wait_for_cluster: Returns the roster once it is sealed.
    """

    def __init__(self, task: TrainerTask, reporter: _Reporter, wait_for_cluster: Callable[[], Cluster]) -> None:
        self._task = task
        self._reporter = reporter
        self._wait_for_cluster = wait_for_cluster
        self._is_ready = False
        self._step: int | None = None

    def run(self) -> Outcome:
        try:
            metrics = self._train_and_evaluate()
        except StaleGenerationError as error:
            _logger.warning("%s", error)
            return outcome_of(error, is_ready=self._is_ready, step=self._step)
        except Exception as error:  # noqa: BLE001 - the process boundary
            traceback.print_exc()
            return outcome_of(error, is_ready=self._is_ready, step=self._step)
        return Outcome(kind=OutcomeKind.COMPLETED, step=self._step, metrics=metrics)

    def _train_and_evaluate(self) -> dict[str, float] | None:
        self._reporter.progress(Section.STARTUP)
        import tensorflow as tf  # noqa: PLC0415 - takes seconds, and the supervisor should hear from us before

        from runner.checkpoint.listing import step_of  # noqa: PLC0415
        from runner.estimator.hooks.progress_hook import ProgressHook  # noqa: PLC0415

        tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.INFO)
        entry = _import_entry(self._task)
        addresses = self._wait_for_cluster().addresses
        experiment = _make_experiment(entry, self._task, addresses)
        if self._task.task_type is TaskType.CHIEF:
            _prepare_model_dir(self._task, addresses)
        self._reporter.progress(Section.FIRST_STEP)
        experiment.train(hooks=[ProgressHook(self._report_step, on_ready=self._on_ready, saves=self)])
        self._step = step_of(experiment.estimator.latest_checkpoint() or "") if self._step is None else self._step
        self._reporter.progress(Section.EVAL, self._step)
        metrics = experiment.evaluate()
        return None if metrics is None else {name: float(value) for name, value in metrics.items() if _is_number(value)}

    def on_saved(self, step: int) -> None:
        self._reporter.saved(step)

    def on_save_failed(self, step: int, error: Exception) -> None:
        self._reporter.save_failed(step, error)

    def on_last_save(self, step: int) -> None:
        section = Section.CHECKPOINT if is_local(self._task.model_dir) else Section.UPLOAD
        self._reporter.update(section=section, step=step)

    def _on_ready(self) -> None:
        self._is_ready = True

    def _report_step(self, step: int, loss: float, steps_per_sec: float | None) -> None:
        self._step = step
        self._reporter.progress(Section.TRAIN, step, loss=loss, steps_per_sec=steps_per_sec)


def _prepare_model_dir(task: TrainerTask, addresses: ClusterSpec) -> None:
    """Finds out now what would otherwise show at the first save, with hours of training to lose."""
    directory = open_directory(task.model_dir)
    directory.check_writable()
    record = GenerationRecord(
        job=task.job_id, generation=task.generation, code=task.code, time=rfc3339(utc_now()), cluster=addresses
    )
    write_generation(directory, record)


def _import_entry(task: TrainerTask) -> Callable[..., Any]:
    module_name, _, function_name = task.entry.partition(":")
    if task.code_dir is not None:
        os.chdir(task.code_dir)
        sys.path.insert(0, task.code_dir)
    module = importlib.import_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise EntryError(f"{module.__file__} has no function {function_name!r}.")
    return function


def _make_experiment(entry: Callable[..., Any], task: TrainerTask, addresses: dict[str, list[str]]) -> Any:
    """Calls the entry under the TF_CONFIG of this task."""
    from runner.estimator import Experiment, RunConfig  # noqa: PLC0415 - loads TensorFlow

    place = Place(task.task_type, task.index)
    service = {"job": task.job_id, "generation": task.generation, "code": task.code}
    os.environ["TF_CONFIG"] = json.dumps(tf_config(addresses, place, model_dir=task.model_dir, service=service))
    available = {"config": RunConfig(model_dir=task.model_dir), "params": task.params}
    parameters = inspect.signature(entry).parameters
    experiment = entry(**{name: value for name, value in available.items() if name in parameters})
    if not isinstance(experiment, Experiment):
        raise InvalidExperimentError(
            f"{task.entry} returned {type(experiment).__name__}; it must return an Experiment."
        )
    model_dir = experiment.estimator.model_dir
    if resolve_model_dir(model_dir) != task.model_dir:
        raise InvalidExperimentError(
            f"{task.entry} made an estimator with model_dir {model_dir}, but the job's is {task.model_dir}: "
            "pass the config that it is given to the estimator."
        )
    return experiment


def _is_number(value: Any) -> bool:
    """Whether it is a real scalar; a metric may be anything that a session returns."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.ndim == 0 and value.dtype.kind in "biuf"
    return isinstance(value, (int, float))


if __name__ == "__main__":
    main()
