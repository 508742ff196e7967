"""A model of embeddings whose sparse gradients take every way between replicas, under each optimizer."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from runner import estimator as tfe

_v1 = tf.compat.v1
_legacy = tf_keras.optimizers.legacy

OPTIMIZERS = {
    "v1_sgd": lambda: _v1.train.GradientDescentOptimizer(0.1),
    "v1_adagrad": lambda: _v1.train.AdagradOptimizer(0.1),
    "v1_adam": lambda: _v1.train.AdamOptimizer(0.1),
    "v1_ftrl": lambda: _v1.train.FtrlOptimizer(0.1, l1_regularization_strength=0.001),
    "sgd": lambda: _legacy.SGD(0.1, momentum=0.9),
    "adagrad": lambda: _legacy.Adagrad(0.1),
    "adam": lambda: _legacy.Adam(0.1),
    "ftrl": lambda: _legacy.Ftrl(0.1, l1_regularization_strength=0.001),
}
BATCH_SIZE = 24
"""Of each of two replicas."""
N_STEPS = 5

_MAX_IDS = 3


# (rows, row shape, dtype) of the tables: of so many rows that they are gathered in every step; of so few that it
# depends on the batch; so small that they ride with the dense gradients; and without a second dimension.
_TABLES = {
    "large": (2000, (3,), tf.float32),
    "double": (2000, (2, 2), tf.float64),
    "middle": (64, (80,), tf.float32),
    "small": (7, (2,), tf.float32),
    "flat": (5000, (), tf.float32),
}


def input_fn() -> tf.data.Dataset:
    """Ids by table, with -1 for none, and a number to predict; the batches of two replicas follow each other.

    The rows of the two replicas are as many as can be, few and unequal, none in one of them, and none at all.
    """
    random = np.random.default_rng(0)
    shares = [(1.0, 1.0), (0.1, 0.3), (0.2, 0.0), (0.0, 0.0), (0.0, 1.0)]
    batches = [_batch(random, share) for pair in shares for share in pair]
    features = {name: np.concatenate([batch[name] for batch in batches]) for name in _TABLES}
    labels = random.normal(size=len(features["large"])).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((features, labels))


def _batch(random: np.random.Generator, share: float) -> dict[str, Any]:
    is_there = random.random([BATCH_SIZE, _MAX_IDS]) < share
    return {
        # Squared, so that rows come twice in a batch, and in both replicas.
        name: np.where(is_there, (random.random([BATCH_SIZE, _MAX_IDS]) ** 2 * n_rows).astype(np.int64), -1)
        for name, (n_rows, _, _) in _TABLES.items()
    }


def model_fn(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> tfe.EstimatorSpec:
    logits = tf.zeros_like(labels) + _v1.get_variable("bias", [], initializer=_v1.ones_initializer())
    for name, (n_rows, row_shape, dtype) in _TABLES.items():
        table = _v1.get_variable(f"table_{name}", [n_rows, *row_shape], dtype, _v1.ones_initializer())
        examples = tf.where(features[name] >= 0)
        rows = tf.nn.embedding_lookup(table, tf.gather_nd(features[name], examples))
        sums = tf.reduce_sum(tf.reshape(rows, [-1, int(np.prod(row_shape))]), axis=1)
        logits += tf.cast(tf.math.unsorted_segment_sum(sums, examples[:, 0], tf.size(labels)), tf.float32)
    loss = tf.reduce_mean(tf.square(logits / 100.0 - labels))
    optimizer, step = OPTIMIZERS[params["optimizer"]](), _v1.train.get_global_step()
    if isinstance(optimizer, _v1.train.Optimizer):
        return tfe.EstimatorSpec(mode, loss=loss, train_op=optimizer.minimize(loss, step))
    optimizer.iterations = step
    (train_op,) = optimizer.get_updates(loss, _v1.trainable_variables())
    return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op)


def train(model_dir: str, *, optimizer: str, batch_size: int, max_steps: int | None = None) -> None:
    """Trains until the input ends."""
    estimator = tfe.Estimator(model_fn, model_dir, config=tfe.RunConfig(), params={"optimizer": optimizer})
    estimator.train(lambda: input_fn().batch(batch_size), max_steps=max_steps)
    assert tf.train.load_variable(model_dir, "global_step") == N_STEPS
