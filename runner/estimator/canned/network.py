"""The logits of a feed-forward network over dense feature columns."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from runner.estimator.canned.feature_columns import check_columns, shared_embeddings
from runner.estimator.canned.parts import Logits
from runner.estimator.model_fn import ModeKeys

__all__ = ["build_network"]

_v1 = tf.compat.v1

_MOMENTUM = 0.999
"""Of the moving statistics of batch normalization, as in the original."""


def build_network(
    features: dict[str, Any],
    mode: str,
    units: int,
    *,
    feature_columns: Sequence[Any],
    hidden_units: Iterable[int],
    activation_fn: Callable[[Any], Any] | str | None,
    dropout: float | None,
    batch_norm: bool,
) -> Logits:
    """Builds the layers in the current name scope, under the variable names of the original.

    Args:
        features: Tensors by name.
        mode: One of ModeKeys.
        units: Size of the last dimension of the logits.
        feature_columns: Dense columns of tf.feature_column.
        hidden_units: Number of units of each hidden layer, from the input up.
        activation_fn: Of the hidden layers: a function or its name; None for none.
        dropout: Probability to drop a unit's output while training; None means never.
        batch_norm: Whether to normalize after each hidden layer.

    Raises:
        ValueError: A column that is not dense, a feature that is missing, or another invalid argument.
    """
    check_columns(feature_columns)
    if dropout is not None and not 0 <= dropout <= 1:
        raise ValueError(f"Invalid value {dropout} received for `rate`, expected a value between 0 and 1.")
    training = mode == ModeKeys.TRAIN
    layers: list[Any] = []

    def call(layer: Any, inputs: Any, **kwargs: Any) -> Any:
        layers.append(layer)
        return layer(inputs, **kwargs)

    scope = _v1.get_default_graph().get_name_scope()
    with tf.name_scope("input_from_feature_columns"):
        outputs = call(tf_keras.layers.DenseFeatures(feature_columns, name="input_layer"), features)
    for index, size in enumerate(hidden_units):
        name = f"hiddenlayer_{index}"
        outputs = call(_dense(size, activation=activation_fn, name=name), outputs)
        if dropout is not None and training:
            outputs = tf.nn.dropout(outputs, rate=dropout)
        if batch_norm:
            layer = tf_keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}/batchnorm_{index}")
            outputs = call(layer, outputs, training=training)
        _summarize(outputs, scope, name)
    logits = call(_dense(units, name="logits"), outputs)
    _summarize(logits, scope, "logits")
    variables = shared_embeddings(feature_columns)
    variables += [variable for layer in layers for variable in layer.trainable_weights]
    return Logits(logits, variables, [update for layer in layers for update in layer.updates])


def _dense(units: int, **kwargs: Any) -> Any:
    # The initializer of tf_keras draws from a generator of its own; this one follows the seed of the graph.
    return tf_keras.layers.Dense(units, kernel_initializer=_v1.glorot_uniform_initializer(), **kwargs)


def _summarize(values: Any, scope: str, layer: str) -> None:
    name = f"{scope}/{layer}" if scope else layer
    with tf.name_scope(""):
        _v1.summary.scalar(f"{name}/fraction_of_zero_values", tf.math.zero_fraction(values))
        _v1.summary.histogram(f"{name}/activation", values)
