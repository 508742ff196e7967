"""Experiment: what it takes, and what it does by itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.checkpoint.evaluations import record_evaluation
from runner.checkpoint.listing import list_checkpoints
from runner.storage.urls import open_directory
from tests.estimator.data import classifier, eval_input_fn, train_input_fn
from tests.estimator.exporting import RecordingExporter


def test_it_trains_and_then_evaluates(tmp_path: Path) -> None:
    experiment = tfe.Experiment(
        classifier(tmp_path), tfe.TrainSpec(train_input_fn, max_steps=10), tfe.EvalSpec(eval_input_fn, steps=None)
    )

    metrics = experiment.run()

    assert metrics is not None
    assert metrics["global_step"] == 10
    assert len(list((tmp_path / "eval").iterdir())) == 1


@pytest.mark.parametrize("max_steps", [2, None])
def test_what_was_trained_is_exported_as_final(tmp_path: Path, max_steps: int | None) -> None:
    exporter = RecordingExporter("last")
    train_spec = tfe.TrainSpec(lambda: train_input_fn().take(2), max_steps=max_steps)
    eval_spec = tfe.EvalSpec(eval_input_fn, steps=1, exporters=exporter)

    tfe.Experiment(classifier(tmp_path, save_checkpoints_steps=1), train_spec, eval_spec).run()

    assert exporter.calls == [
        {"export_path": f"{tmp_path}/export/last", "checkpoint": "model.ckpt-2", "step": 2, "is_final": True}
    ]


def test_a_worker_neither_evaluates_nor_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    exporter = RecordingExporter("last")
    experiment = tfe.Experiment(
        classifier(tmp_path), tfe.TrainSpec(train_input_fn), tfe.EvalSpec(eval_input_fn, exporters=exporter)
    )

    assert experiment.evaluate() is None
    assert exporter.calls == []


def test_without_an_eval_spec_there_are_no_metrics(tmp_path: Path) -> None:
    experiment = tfe.Experiment(classifier(tmp_path), tfe.TrainSpec(train_input_fn, max_steps=1))

    assert experiment.run() is None
    assert not (tmp_path / "eval").exists()


def test_hooks_of_the_train_spec_and_those_given_both_run(tmp_path: Path) -> None:
    told: list[str] = []

    class Hook(tf.compat.v1.train.SessionRunHook):
        def __init__(self, name: str) -> None:
            self._name = name

        def end(self, session: Any) -> None:
            told.append(self._name)

    spec = tfe.TrainSpec(train_input_fn, max_steps=1, hooks=[Hook("spec")])
    tfe.Experiment(classifier(tmp_path), spec).train(hooks=[Hook("given")])

    assert told == ["spec", "given"]


def test_what_is_not_an_experiment_is_refused(tmp_path: Path) -> None:
    estimator, train_spec = classifier(tmp_path), tfe.TrainSpec(train_input_fn)

    with pytest.raises(TypeError, match="`estimator` must have type `Estimator`"):
        tfe.Experiment(1, train_spec)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`train_spec` must have type `TrainSpec`"):
        tfe.Experiment(estimator, train_input_fn)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`eval_spec` must have type `EvalSpec`"):
        tfe.Experiment(estimator, train_spec, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`keep_best` must have type `KeepBest`"):
        tfe.Experiment(estimator, train_spec, keep_best="accuracy")  # type: ignore[arg-type]


def test_the_best_checkpoint_is_kept_beside_the_newest(tmp_path: Path) -> None:
    estimator = classifier(tmp_path, save_checkpoints_steps=1, keep_checkpoint_max=1)
    for step, accuracy in enumerate((0.5, 0.75, 0.25), start=1):  # as if by an evaluator that is quick
        record_evaluation(open_directory(str(tmp_path)), f"model.ckpt-{step}", {"accuracy": accuracy})

    tfe.Experiment(estimator, tfe.TrainSpec(train_input_fn, max_steps=5), keep_best=tfe.KeepBest("accuracy")).run()

    assert [info.step for info in list_checkpoints(str(tmp_path))] == [2, 5]
