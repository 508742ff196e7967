"""InMemoryEvaluatorHook: evaluations of the weights that a session holds."""

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.data import classifier, eval_input_fn, linear_input_fn, linear_model_fn, train_input_fn
from tests.estimator.events import scalars


def linear(model_dir: Path, model_fn: Any = linear_model_fn, **config: Any) -> tfe.Estimator:
    return tfe.Estimator(model_fn, str(model_dir), tfe.RunConfig(**config), params={})


def test_it_evaluates_at_the_start_every_n_steps_and_at_the_end(tmp_path: Path) -> None:
    estimator = linear(tmp_path, save_checkpoints_steps=None, save_checkpoints_secs=None)
    hook = tfe.experimental.InMemoryEvaluatorHook(estimator, linear_input_fn, steps=1, every_n_iter=4)

    estimator.train(linear_input_fn, hooks=[hook])

    assert not list(tmp_path.glob("model.ckpt*"))
    losses = scalars(tmp_path / "eval", "loss")
    assert list(losses) == [0, 4, 8, 10]
    assert losses[0] == pytest.approx(10.0)  # of a weight that is 0
    assert losses[10] < losses[8] < losses[4] < losses[0]


def test_steps_that_pass_no_hook_are_counted(tmp_path: Path) -> None:
    estimator = linear(tmp_path)
    hook = tfe.experimental.InMemoryEvaluatorHook(estimator, linear_input_fn, steps=1, every_n_iter=100)

    estimator.train(lambda: linear_input_fn().repeat(), hooks=[hook], steps=250)

    assert list(scalars(tmp_path / "eval", "loss")) == [0, 100, 200, 250]


def test_runs_are_counted_where_four_of_them_make_a_step(tmp_path: Path) -> None:
    def accumulating_model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        spec = linear_model_fn(features, labels, mode, {})
        runs = tf.compat.v1.get_variable("runs", [], tf.int64, tf.compat.v1.zeros_initializer(), trainable=False)
        count = tf.compat.v1.assign_add(runs, 1)
        step = tf.compat.v1.train.get_global_step()
        return spec._replace(train_op=tf.compat.v1.assign(step, count // 4).op)

    estimator = tfe.Estimator(accumulating_model_fn, str(tmp_path))
    hook = tfe.experimental.InMemoryEvaluatorHook(estimator, linear_input_fn, steps=1, every_n_iter=100)

    estimator.train(lambda: linear_input_fn().repeat(), hooks=[hook], max_steps=101)

    assert list(scalars(tmp_path / "eval", "loss")) == [0, 25, 50, 75, 100, 101]


def test_its_metrics_are_those_of_an_evaluation_of_the_checkpoint(tmp_path: Path) -> None:
    estimator = classifier(tmp_path)
    hook = tfe.experimental.InMemoryEvaluatorHook(estimator, eval_input_fn, name="memory", every_n_iter=1000)

    estimator.train(train_input_fn, hooks=[hook], steps=20)

    metrics = estimator.evaluate(eval_input_fn)
    for name in ("loss", "accuracy", "average_loss"):
        assert scalars(tmp_path / "eval_memory", name)[20] == pytest.approx(metrics[name])


def test_it_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    estimator = linear(tmp_path)
    estimator.train(linear_input_fn, steps=3)
    metrics = estimator.evaluate(linear_input_fn)
    hook = tfe.experimental.InMemoryEvaluatorHook(estimator, linear_input_fn, name="memory")

    estimator.train(linear_input_fn, hooks=[hook], steps=2)

    losses = scalars(tmp_path / "eval_memory", "loss")
    assert list(losses) == [3, 5]
    assert losses[3] == pytest.approx(metrics["loss"])


def test_its_hooks_run_in_each_evaluation(tmp_path: Path) -> None:
    class Counting(tf.compat.v1.train.SessionRunHook):
        runs = 0

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.runs += 1

    counting, estimator = Counting(), linear(tmp_path)
    hook = tfe.experimental.InMemoryEvaluatorHook(estimator, linear_input_fn, steps=2, hooks=[counting])

    estimator.train(linear_input_fn, hooks=[hook], steps=1)

    assert counting.runs == 2 * 2


def test_variables_that_only_the_evaluation_has_are_initialized(tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any, mode: str, params: Any) -> tfe.EstimatorSpec:
        spec = linear_model_fn(features, labels, mode, params)
        if mode != tfe.ModeKeys.EVAL:
            return spec
        bonus = tf.compat.v1.get_variable("bonus", [], initializer=tf.compat.v1.constant_initializer(5.0))
        return spec._replace(eval_metric_ops={"bonus": tf.compat.v1.metrics.mean(bonus)})

    estimator = linear(tmp_path, model_fn)
    hook = tfe.experimental.InMemoryEvaluatorHook(estimator, linear_input_fn)

    estimator.train(linear_input_fn, hooks=[hook], steps=1)

    assert scalars(tmp_path / "eval", "bonus") == {0: 5.0, 1: 5.0}


@pytest.mark.parametrize("every_n_iter", [0, -1, None])
def test_the_interval_must_be_positive(tmp_path: Path, every_n_iter: Any) -> None:
    with pytest.raises(ValueError, match=rf"^invalid every_n_iter={every_n_iter}\.$"):
        tfe.experimental.InMemoryEvaluatorHook(linear(tmp_path), linear_input_fn, every_n_iter=every_n_iter)


def test_a_cluster_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))

    with pytest.raises(ValueError, match=r"^InMemoryEvaluator supports only single machine \(aka Local\) setting\.$"):
        tfe.experimental.InMemoryEvaluatorHook(linear(tmp_path), linear_input_fn)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("saver", "InMemoryEvaluator does not support custom saver"),
        ("init_fn", "InMemoryEvaluator does not support custom init_fn"),
        ("saveable", "InMemoryEvaluator does not support saveables other than global variables."),
    ],
)
def test_what_it_cannot_copy_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    def model_fn(features: Any, labels: Any, mode: str, params: Any) -> tfe.EstimatorSpec:
        spec = linear_model_fn(features, labels, mode, params)
        options: dict[str, Any] = {}
        if kind == "saver":
            options["saver"] = tf.compat.v1.train.Saver()
        elif kind == "init_fn":
            options["init_fn"] = lambda scaffold, session: None
        else:
            tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
        return spec._replace(scaffold=tf.compat.v1.train.Scaffold(**options))

    estimator = linear(tmp_path, model_fn)
    hook = tfe.experimental.InMemoryEvaluatorHook(estimator, linear_input_fn)

    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        estimator.train(linear_input_fn, hooks=[hook])

    assert str(caught.value) == message
