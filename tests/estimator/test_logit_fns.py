"""Functions that make logits, put together in a model_fn."""

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator.v1 import experimental

fc = tf.feature_column
X = fc.numeric_column("x", shape=2)
CATEGORY = fc.categorical_column_with_identity("category", 3)


def input_fn() -> tf.data.Dataset:
    features = {"x": [[1.0, 2.0], [3.0, 4.0]], "category": [0, 2]}
    return tf.data.Dataset.from_tensors((features, [0, 1])).repeat(2)


def model_fn(features: Any, labels: Any, mode: str, config: tfe.RunConfig) -> tfe.EstimatorSpec:
    columns = [X, fc.embedding_column(CATEGORY, 2)]
    with tf.compat.v1.variable_scope("deep"):
        deep = experimental.dnn_logit_fn_builder(3, [4], columns, tf.nn.relu, 0.1, None, batch_norm=True)
        logits = experimental.call_logit_fn(deep, features, mode, {}, config)
    wide = experimental.linear_logit_fn_builder(3, [X, CATEGORY])
    logits += experimental.call_logit_fn(wide, features, mode, {}, config)
    return tfe.MultiClassHead(3).create_estimator_spec(
        features,
        mode,
        logits,
        labels=labels,
        optimizer=tf.compat.v1.train.GradientDescentOptimizer(0.1),
        trainable_variables=tf.compat.v1.trainable_variables(),
        update_ops=tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS),
    )


def test_logits_of_builders_are_trained_under_their_scopes(tmp_path: Path) -> None:
    estimator = tfe.Estimator(model_fn, str(tmp_path))

    estimator.train(input_fn)

    assert estimator.get_variable_names() == [
        "deep/hiddenlayer_0/batchnorm_0/beta",
        "deep/hiddenlayer_0/batchnorm_0/gamma",
        "deep/hiddenlayer_0/batchnorm_0/moving_mean",
        "deep/hiddenlayer_0/batchnorm_0/moving_variance",
        "deep/hiddenlayer_0/bias",
        "deep/hiddenlayer_0/kernel",
        "deep/input_from_feature_columns/input_layer/category_embedding/embedding_weights",
        "deep/logits/bias",
        "deep/logits/kernel",
        "global_step",
        "linear_model/bias_weights",
        "linear_model/category/weights",
        "linear_model/x/weights",
    ]
    assert estimator.get_variable_value("linear_model/x/weights").any()
    assert estimator.get_variable_value("deep/hiddenlayer_0/batchnorm_0/moving_mean").any()
    assert estimator.evaluate(input_fn)["global_step"] == 2


def test_a_logit_fn_is_given_what_it_takes() -> None:
    def logit_fn(features: Any, params: Any) -> Any:
        return {"logits": tf.constant([features["x"], params["y"]])}

    logits = experimental.call_logit_fn(logit_fn, {"x": 1.0}, tfe.ModeKeys.EVAL, {"y": 2.0}, None)

    assert logits["logits"].numpy().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("returned", [3, {"a": 3}, {1: tf.constant(1.0)}, [tf.constant(1.0)]])
def test_what_is_no_tensor_is_refused(returned: Any) -> None:
    with pytest.raises(ValueError, match="logit_fn should return a Tensor or a dictionary mapping strings to Tensors"):
        experimental.call_logit_fn(lambda features: returned, {}, tfe.ModeKeys.EVAL, {}, None)


def test_units_that_are_no_int_are_refused() -> None:
    with pytest.raises(ValueError, match=r"units must be an int.  Given type: <class 'str'>"):
        experimental.dnn_logit_fn_builder("3", [2], [X], None, None, None, batch_norm=False)  # type: ignore[arg-type]


def test_the_partitioner_of_a_builder_is_not_used_and_that_is_said(info_log: pytest.LogCaptureFixture) -> None:
    partitioner = tf.compat.v1.fixed_size_partitioner(2)

    experimental.dnn_logit_fn_builder(3, [4], [X], None, None, partitioner, batch_norm=False)

    assert "input_layer_partitioner is not used: every task holds whole variables" in info_log.text
