"""DNNClassifier: a feed-forward network over feature columns."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from runner.estimator.canned.optimizers import make_optimizer
from runner.estimator.estimator import Estimator
from runner.estimator.heads.class_head import class_head
from runner.estimator.model_fn import EstimatorSpec, ModeKeys
from runner.estimator.run_config import RunConfig

__all__ = ["DNNClassifier"]

_v1 = tf.compat.v1

_LEARNING_RATE = 0.05
"""Of an optimizer given by name, as the original documents."""


class DNNClassifier(Estimator):
    """A classifier with fully connected hidden layers; a re-creation of tf.estimator.DNNClassifier.

    Args:
        hidden_units: Number of units of each hidden layer, from the input up.
        feature_columns: Dense columns of tf.feature_column, such as numeric_column or embedding_column.
        model_dir: See Estimator.
        n_classes: Number of classes; labels are class ids from 0 to n_classes - 1.
        weight_column: Feature with the weights of the examples: its name or a numeric column.
        label_vocabulary: Classes as strings, in order, if labels are strings.
        optimizer: A name ("Adagrad", "Adam", "Ftrl", "RMSProp", "SGD", with a learning rate of 0.05), an optimizer of
            tf_keras.optimizers.legacy or tf.compat.v1.train, or a callable that makes one, called in the graph.
        activation_fn: Of the hidden layers.
        dropout: Probability to drop a unit's output while training; None means never.
        config: See Estimator.
        loss_reduction: "sum_over_batch_size" or "sum".
        batch_norm: Whether to normalize after each hidden layer.
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        feature_columns: Sequence[Any],
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: Any = "Adagrad",
        activation_fn: Callable[[Any], Any] = tf.nn.relu,
        dropout: float | None = None,
        config: RunConfig | None = None,
        *,
        loss_reduction: str = "sum_over_batch_size",
        batch_norm: bool = False,
    ) -> None:
        head = class_head(
            n_classes, weight_column=weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction
        )

        def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
            logits, variables = _network(
                features,
                mode,
                feature_columns=feature_columns,
                hidden_units=hidden_units,
                logits_dimension=head.logits_dimension,
                activation_fn=activation_fn,
                dropout=dropout,
                batch_norm=batch_norm,
            )
            training = mode == ModeKeys.TRAIN
            return head.create_estimator_spec(
                features,
                mode,
                logits,
                labels=labels,
                optimizer=make_optimizer(optimizer, learning_rate=_LEARNING_RATE) if training else None,
                trainable_variables=variables,
                update_ops=_v1.get_collection(_v1.GraphKeys.UPDATE_OPS),
            )

        super().__init__(model_fn=model_fn, model_dir=model_dir, config=config)


def _network(
    features: Any,
    mode: str,
    *,
    feature_columns: Sequence[Any],
    hidden_units: Sequence[int],
    logits_dimension: int,
    activation_fn: Callable[[Any], Any],
    dropout: float | None,
    batch_norm: bool,
) -> tuple[Any, list[Any]]:
    """Builds the layers under the variable names of the original.

    Returns:
        Logits `[batch, logits_dimension] float32`, and the trainable variables in the order of the layers.
    """
    if not isinstance(features, dict):
        raise ValueError(f"features should be a dictionary of `Tensor`s. Given type: {type(features)}")  # noqa: TRY004
    training = mode == ModeKeys.TRAIN
    layers: list[Any] = []

    def call(layer: Any, inputs: Any, **kwargs: Any) -> Any:
        layers.append(layer)
        return layer(inputs, **kwargs)

    with tf.name_scope("dnn"):
        with tf.name_scope("input_from_feature_columns"):
            outputs = call(tf_keras.layers.DenseFeatures(feature_columns, name="input_layer"), features)
        for index, units in enumerate(hidden_units):
            outputs = call(_dense(units, activation=activation_fn, name=f"hiddenlayer_{index}"), outputs)
            if dropout is not None and training:
                outputs = tf.nn.dropout(outputs, rate=dropout)
            if batch_norm:
                # Momentum 0.999 is that of the original, in favour of the long run.
                normalization = tf_keras.layers.BatchNormalization(
                    momentum=0.999, name=f"hiddenlayer_{index}/batchnorm_{index}"
                )
                outputs = call(normalization, outputs, training=training)
            _summarize(outputs, f"dnn/hiddenlayer_{index}")
        logits = call(_dense(logits_dimension, name="logits"), outputs)
    _summarize(logits, "dnn/logits")
    for layer in layers:
        for update in layer.updates:
            _v1.add_to_collection(_v1.GraphKeys.UPDATE_OPS, update)
    return logits, [variable for layer in layers for variable in layer.trainable_weights]


def _dense(units: int, **kwargs: Any) -> Any:
    # The initializer of tf_keras draws from a generator of its own; this one follows the seed of the graph.
    return tf_keras.layers.Dense(units, kernel_initializer=_v1.glorot_uniform_initializer(), **kwargs)


def _summarize(values: Any, name: str) -> None:
    with tf.name_scope(""):
        _v1.summary.scalar(f"{name}/fraction_of_zero_values", tf.math.zero_fraction(values))
        _v1.summary.histogram(f"{name}/activation", values)
