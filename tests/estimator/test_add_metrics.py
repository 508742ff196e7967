"""add_metrics: more metrics in the evaluations of an estimator."""

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tf_keras

from runner import estimator as tfe
from runner.estimator import v1 as tf1
from tests.estimator.data import linear_input_fn, linear_model_fn, steps_of


def mean_label(labels: Any) -> dict[str, Any]:
    return {"mean_label": tf.compat.v1.metrics.mean(labels)}


def make(model_dir: Path, **kwargs: Any) -> tfe.Estimator:
    return tfe.Estimator(linear_model_fn, str(model_dir), params={"scale": 2.0}, **kwargs)


def test_a_metric_is_evaluated_beside_those_of_the_model_fn(tmp_path: Path) -> None:
    estimator = make(tmp_path)
    more = tfe.add_metrics(estimator, mean_label)

    more.train(linear_input_fn, steps=1)

    before, after = estimator.evaluate(linear_input_fn), more.evaluate(linear_input_fn)
    assert after == {**before, "mean_label": 3.0}
    assert steps_of(tmp_path) == [1]
    assert type(more) is tf1.Estimator
    assert list(more.predict(linear_input_fn)) == list(estimator.predict(linear_input_fn))


def test_a_metric_may_need_features_predictions_and_config(tmp_path: Path) -> None:
    def metric_fn(predictions: Any, config: tfe.RunConfig, features: Any) -> dict[str, Any]:
        error = tf_keras.metrics.MeanAbsoluteError(name="error")
        error.update_state(features["x"], predictions["y"])
        return {"error": error, "seed": tf.compat.v1.metrics.mean(float(config.tf_random_seed or 0))}

    estimator = tfe.add_metrics(make(tmp_path, config=tfe.RunConfig(tf_random_seed=5)), metric_fn)

    metrics = estimator.evaluate(linear_input_fn)

    assert (metrics["error"], metrics["seed"]) == (1.5, 5.0)


def test_a_metric_replaces_one_of_the_same_name(tmp_path: Path) -> None:
    def one(labels: Any) -> dict[str, Any]:
        return {"mean_label": tf.compat.v1.metrics.mean(1.0)}

    estimator = tfe.add_metrics(tfe.add_metrics(make(tmp_path), mean_label), one)

    assert estimator.evaluate(linear_input_fn)["mean_label"] == 1.0


def test_the_warm_start_is_that_of_the_estimator(tmp_path: Path) -> None:
    make(tmp_path / "previous").train(linear_input_fn, steps=1)

    estimator = tfe.add_metrics(make(tmp_path / "model", warm_start_from=str(tmp_path / "previous")), mean_label)

    assert next(estimator.predict(linear_input_fn))["y"] == pytest.approx(2.0)  # a step of 0.1 times a gradient of 20


def test_the_loss_of_the_estimator_is_not_replaced(tmp_path: Path) -> None:
    estimator = tfe.add_metrics(make(tmp_path), lambda labels: {"loss": tf.compat.v1.metrics.mean(labels)})

    with pytest.raises(ValueError, match=r'^Metric with name "loss" is not allowed, because Estimator already defines'):
        estimator.evaluate(linear_input_fn)


def test_a_metric_fn_with_another_argument_is_refused(tmp_path: Path) -> None:
    def metric_fn(labels: Any, logits: Any) -> dict[str, Any]:
        return {}

    with pytest.raises(ValueError, match=r"^metric_fn \(.*\) has following not expected args: \['logits'\]$"):
        tfe.add_metrics(make(tmp_path), metric_fn)
    with pytest.raises(TypeError, match=r"^unsupported callable$"):
        tfe.add_metrics(make(tmp_path), 3)  # type: ignore[arg-type]
