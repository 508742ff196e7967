"""A script written for TensorFlow 1, not for this package: trains a canned and a custom estimator without TensorFlow 2.

Its two arguments are a directory for the models and the file for the metrics.
"""

import json
import sys
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.INFO)

X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int64)
COLUMNS = [tf.feature_column.numeric_column("x", shape=[4])]


def input_fn(num_epochs: int) -> Any:
    return tf.estimator.inputs.numpy_input_fn({"x": X}, Y, batch_size=16, num_epochs=num_epochs, shuffle=False)


def model_fn(features: Any, labels: Any, mode: str) -> Any:
    training = mode == tf.estimator.ModeKeys.TRAIN
    net = tf.feature_column.input_layer(features, COLUMNS)
    net = tf.layers.batch_normalization(net, training=training, momentum=0.9, name="normalization")
    net = tf.layers.dropout(net, 0.1, training=training)
    cell = tf.nn.rnn_cell.BasicLSTMCell(4)
    outputs, _ = tf.nn.dynamic_rnn(cell, net[:, :, tf.newaxis], dtype=tf.float32)
    logits = tf.layers.dense(net, 2, name="logits") + tf.layers.dense(outputs[:, -1], 2, name="of_rnn")
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    tf.summary.scalar("entropy", loss)
    metrics = {"accuracy": tf.metrics.accuracy(labels, tf.argmax(logits, axis=-1))}
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer(0.05).minimize(loss, global_step=tf.train.get_global_step())
    hooks = [tf.train.LoggingTensorHook({"entropy": loss}, every_n_iter=20)]
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=train_op, eval_metric_ops=metrics, training_hooks=hooks if training else None
    )


def main(model_dir: str, metrics_path: str) -> None:
    config = tf.estimator.RunConfig(tf_random_seed=1)
    canned = tf.estimator.DNNClassifier(
        [8], COLUMNS, model_dir + "/canned", optimizer=tf.train.AdamOptimizer(0.05), config=config
    )
    custom = tf.estimator.Estimator(model_fn, model_dir + "/custom", config)
    metrics = {}
    for name, estimator in (("canned", canned), ("custom", custom)):
        for _ in range(2):  # the second time from the checkpoint of the first
            estimator.train(input_fn(5))
        metrics[name] = {key: float(value) for key, value in estimator.evaluate(input_fn(1)).items()}
    with open(metrics_path, "w", encoding="utf-8") as file:
        json.dump({**metrics, "package": tf.estimator.DNNClassifier.__module__}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
