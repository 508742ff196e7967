"""A script written for tf.estimator, not for this package: trains a canned and a custom estimator.

Its two arguments are a directory for the models and the file for the metrics.
"""

import json
import sys
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as tf1
import tensorflow.estimator
from tensorflow.compat.v1.estimator import ModeKeys as ModeKeysV1
from tensorflow.estimator import ModeKeys, RunConfig
from tensorflow.estimator.experimental import stop_if_higher_hook
from tensorflow.keras.layers import Dense


def input_fn() -> tf.data.Dataset:
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices(({"x": x}, (x.sum(axis=1) > 0).astype(np.int64))).repeat(20).batch(16)


def model_fn(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> Any:
    training = mode == ModeKeys.TRAIN
    hidden = Dense(8, activation="relu", name="of_keras")(features["x"])
    normalization = tf.keras.layers.BatchNormalization(momentum=0.5, name="normalization")
    hidden = normalization(hidden, training=training)
    hidden = tf1.layers.dense(hidden, 8, activation=tf.nn.relu, name="of_tf1")
    logits = tf1.layers.dense(hidden, params["n_classes"], name="logits")
    predictions = {"class": tf.argmax(logits, axis=-1)}
    if mode == ModeKeysV1.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf1.losses.sparse_softmax_cross_entropy(labels, logits)
    metrics = {"accuracy": tf1.metrics.accuracy(labels, predictions["class"])}
    if mode == ModeKeys.EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
    with tf.control_dependencies(normalization.updates):
        train_op = tf1.train.AdamOptimizer(0.02).minimize(loss, global_step=tf1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def main(model_dir: str, metrics_path: str) -> None:
    config = RunConfig(tf_random_seed=1)
    canned = tf.estimator.DNNClassifier(
        [8], [tf.feature_column.numeric_column("x", shape=4)], model_dir + "/canned", config=config
    )
    custom = tf1.estimator.Estimator(model_fn, model_dir + "/custom", config, params={"n_classes": 2})
    metrics = {}
    for name, estimator in (("canned", canned), ("custom", custom)):
        hooks = [
            tf.data.experimental.CheckpointInputPipelineHook(estimator),
            stop_if_higher_hook(estimator, "accuracy", 2.0),
        ]
        estimator.train(input_fn, hooks, steps=40)
        metrics[name] = {key: float(value) for key, value in estimator.evaluate(input_fn).items()}
    with open(metrics_path, "w", encoding="utf-8") as file:
        json.dump({**metrics, "package": tensorflow.estimator.Estimator.__module__}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
