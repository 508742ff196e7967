"""The real training process, spoken to over its pipes as a supervisor does."""

import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from runner.cluster import TaskType
from runner.errors import StoreFullError
from runner.jobs.records import GenerationRecord, generation_name
from runner.jobs.state import Outcome, OutcomeKind, Section
from tests.waiting import wait_until
from workers.messages import REPORT_FD_VARIABLE, Cluster, Report, TrainerTask
from workers.trainer import _Reporter

TIMEOUT_SECS = 120
CODE = "c0de" * 16

PRELUDE = """
import os, subprocess, sys
import tensorflow as tf
from runner import estimator as tfe

def input_fn():
    return tf.data.Dataset.from_tensors({"x": [1.0]}).repeat(20)

def model_fn(features, mode):
    weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.ones_initializer())
    loss = tf.square(weight * features["x"][0])
    train_op = tf.compat.v1.train.GradientDescentOptimizer(0.1).minimize(loss, tf.compat.v1.train.get_global_step())
    return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op)
"""


class Trainer:
    """A started training process."""

    def __init__(self, process: "subprocess.Popen[bytes]", reports: int, log: Path) -> None:
        self.process = process
        self.reports = reports
        self.log = log

    def seal(self) -> None:
        self.send(Cluster(addresses={}).model_dump_json())

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def read_reports(self) -> list[Report]:
        """All reports; returns when the process has ended."""
        with os.fdopen(self.reports, encoding="utf-8", closefd=False) as reports:
            read = [Report.model_validate_json(line) for line in reports]
        self.process.wait(TIMEOUT_SECS)
        return read

    def outcome(self) -> Outcome:
        outcome = self.read_reports()[-1].outcome
        assert outcome is not None
        return outcome


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, tmp_path: Path, code: str, *, entry: str = "mine:experiment") -> Trainer:
    """Starts a training process whose module `mine` is `code`."""
    directory = tmp_path / "code"
    directory.mkdir()
    (directory / "mine.py").write_text(PRELUDE + textwrap.dedent(code))
    reports, writer = os.pipe()
    stack.callback(os.close, reports)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.trainer"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[writer],
            env={**os.environ, REPORT_FD_VARIABLE: str(writer)},
            process_group=0,
        )
    os.close(writer)
    stack.enter_context(process)
    stack.callback(process.kill)
    trainer = Trainer(process, reports, log)
    task = TrainerTask(
        job_id="job-aaaaaaaa",
        generation=3,
        task_type=TaskType.CHIEF,
        index=0,
        entry=entry,
        params={"word": "hello"},
        model_dir=str(tmp_path / "model"),
        code=CODE,
        code_dir=str(directory),
    )
    trainer.send(task.model_dump_json())
    return trainer


def test_it_trains_evaluates_and_tells_its_progress(stack: ExitStack, tmp_path: Path) -> None:
    code = """
    def experiment(params):
        print("params", params, "in", os.getcwd())
        config = tfe.RunConfig(save_checkpoints_steps=7)
        print("service", dict(sorted(config.service.items())))
        estimator = tfe.Estimator(model_fn, config=config)
        return tfe.Experiment(estimator, tfe.TrainSpec(input_fn, max_steps=10), tfe.EvalSpec(input_fn, steps=None))
    """
    trainer = start(stack, tmp_path, code)
    trainer.seal()

    reports = trainer.read_reports()

    outcome = reports[-1].outcome
    progress = [report.progress for report in reports if report.progress]
    assert outcome is not None, trainer.log.read_text()
    assert (outcome.kind, outcome.step) == (OutcomeKind.COMPLETED, 10)
    assert outcome.metrics is not None
    assert outcome.metrics["loss"] < 0.1
    sections = [section for section, _ in itertools.groupby(p.section for p in progress)]
    assert sections[:3] == [Section.STARTUP, Section.FIRST_STEP, Section.TRAIN]
    first = next(p for p in progress if p.section is Section.TRAIN)
    assert first.step == 1
    assert first.loss == pytest.approx(1.0)
    assert Section.CHECKPOINT in sections
    assert (progress[-1].section, progress[-1].step) == (Section.EVAL, 10)
    saved = [p.saves.step for p in progress if p.saves]
    assert [step for step, _ in itertools.groupby(saved)] == [1, 7, 10]
    assert progress[-1].saves is not None
    assert progress[-1].saves.error == ""
    assert f"params {{'word': 'hello'}} in {tmp_path / 'code'}" in trainer.log.read_text()
    assert (tmp_path / "model" / "model.ckpt-10.index").exists()
    record = GenerationRecord.model_validate_json((tmp_path / "model" / generation_name(3)).read_text())
    assert (record.job, record.generation, record.code, record.cluster) == ("job-aaaaaaaa", 3, CODE, {})
    assert f"service {{'code': '{CODE}', 'generation': 3, 'job': 'job-aaaaaaaa'}}" in trainer.log.read_text()
    assert trainer.process.returncode == 0


def test_a_save_that_failed_is_in_every_report_until_one_works(tmp_path: Path) -> None:
    path = tmp_path / "reports"
    with path.open("w", encoding="utf-8") as pipe:
        reporter = _Reporter(pipe)
        reporter.progress(Section.TRAIN, 5)
        reporter.saved(5)
        reporter.save_failed(7, StoreFullError("The disk is full."))
        reporter.progress(Section.TRAIN, 8)
        reporter.saved(9)

    progress = [Report.model_validate_json(line).progress for line in path.read_text().splitlines()]
    saves = [p.saves for p in progress if p]
    error = "the checkpoint of step 7 was not saved: The disk is full."
    assert saves[0] is None
    assert [(s.step, s.error) for s in saves if s] == [(5, ""), (5, error), (5, error), (9, "")]
    assert [p.step for p in progress if p] == [5, 5, 5, 8, 8]


def test_it_exports_what_it_trained(stack: ExitStack, tmp_path: Path) -> None:
    code = """
    class Exporter:
        name = "last"
        def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export):
            print("exported", export_path, checkpoint_path, is_the_final_export)

    def experiment(config):
        eval_spec = tfe.EvalSpec(input_fn, steps=1, exporters=Exporter())
        return tfe.Experiment(tfe.Estimator(model_fn, config=config), tfe.TrainSpec(input_fn, max_steps=2), eval_spec)
    """
    trainer = start(stack, tmp_path, code)
    trainer.seal()

    outcome = trainer.outcome()

    model_dir = tmp_path / "model"
    assert outcome.kind is OutcomeKind.COMPLETED, trainer.log.read_text()
    assert f"exported {model_dir}/export/last {model_dir}/model.ckpt-2 True" in trainer.log.read_text()


def test_metrics_that_are_no_numbers_do_not_fail_a_training_that_is_done(stack: ExitStack, tmp_path: Path) -> None:
    code = """
    def with_metrics(features, mode):
        spec = model_fn(features, mode)
        update = tf.no_op()
        metrics = {
            "nested": ({"p": tf.constant(1.0)}, update),
            "list": ([tf.constant(1.0), tf.constant(2.0)], update),
            "text": (tf.constant("a"), update),
            "complex": (tf.constant(1j), update),
            "vector": (tf.constant([1.0]), update),
            "count": (tf.constant(3), update),
            "flag": (tf.constant(True), update),
        }
        return spec._replace(eval_metric_ops=metrics)

    def experiment(config):
        estimator = tfe.Estimator(with_metrics, config=config)
        return tfe.Experiment(estimator, tfe.TrainSpec(input_fn, max_steps=2), tfe.EvalSpec(input_fn, steps=1))
    """
    trainer = start(stack, tmp_path, code)
    trainer.seal()

    outcome = trainer.outcome()

    assert outcome.kind is OutcomeKind.COMPLETED, trainer.log.read_text()
    assert outcome.metrics is not None
    assert set(outcome.metrics) == {"loss", "global_step", "count", "flag"}
    assert (outcome.metrics["count"], outcome.metrics["flag"]) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("code", "entry", "message"),
    [
        ("", "nope:experiment", "ModuleNotFoundError: No module named 'nope'"),
        ("", "mine:nope", "has no function 'nope'"),
        ("raise RuntimeError('on import')", "mine:experiment", "RuntimeError: on import"),
        ("def experiment(): return 3", "mine:experiment", "mine:experiment returned int; it must return an Experiment"),
        ("def experiment(): return tfe.Experiment(1, 2)", "mine:experiment", "`estimator` must have type `Estimator`"),
        ("def experiment(more): pass", "mine:experiment", "missing 1 required positional argument: 'more'"),
        (
            """
            def experiment():
                del os.environ["TF_CONFIG"]
                estimator = tfe.Estimator(model_fn, model_dir="/tmp/another")
                return tfe.Experiment(estimator, tfe.TrainSpec(input_fn))
            """,
            "mine:experiment",
            "made an estimator with model_dir /tmp/another, but the job's is",
        ),
    ],
)
def test_what_cannot_be_set_up_is_a_configuration_error(
    stack: ExitStack, tmp_path: Path, code: str, entry: str, message: str
) -> None:
    trainer = start(stack, tmp_path, code, entry=entry)
    trainer.seal()

    outcome = trainer.outcome()

    assert outcome.kind is OutcomeKind.CONFIG_ERROR
    assert message in outcome.message
    assert "Traceback" in trainer.log.read_text()
    assert not (tmp_path / "model").exists()


def test_an_error_in_mid_training_is_a_failure_with_its_step(stack: ExitStack, tmp_path: Path) -> None:
    code = """
    class Failing(tf.compat.v1.train.SessionRunHook):
        steps = 0
        def after_run(self, run_context, run_values):
            self.steps += 1
            if self.steps == 3:
                raise ValueError("in step 3")

    def experiment(config):
        return tfe.Experiment(tfe.Estimator(model_fn, config=config), tfe.TrainSpec(input_fn, hooks=[Failing()]))
    """
    trainer = start(stack, tmp_path, code)
    trainer.seal()

    outcome = trainer.outcome()

    assert (outcome.kind, outcome.message) == (OutcomeKind.FAILED, "ValueError: in step 3")
    assert trainer.process.returncode == 1


def test_it_ends_with_its_supervisor_and_takes_its_children_along(stack: ExitStack, tmp_path: Path) -> None:
    code = """
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    print("child", child.pid, flush=True)
    def experiment(): ...
    """
    trainer = start(stack, tmp_path, code)
    wait_until(lambda: "child " in trainer.log.read_text(), trainer.log.read_text)
    child = psutil.Process(int(trainer.log.read_text().split("child ")[1].split()[0]))

    assert trainer.process.stdin is not None
    trainer.process.stdin.close()  # as when the supervisor dies

    assert trainer.process.wait(TIMEOUT_SECS) < 0
    psutil.wait_procs([child], timeout=TIMEOUT_SECS)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
