"""RNNEstimator and RNNClassifier: a recurrent network over sequences of features."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import tensorflow as tf
import tf_keras

# The layer of TensorFlow 1, which names its variables by its own name alone.
from tf_keras.api._v1.keras.layers import DenseFeatures

from runner.estimator.canned.optimizers import detach_optimizer, make_optimizer
from runner.estimator.estimator_v1 import Estimator
from runner.estimator.heads.class_head import class_head
from runner.estimator.heads.head import Head
from runner.estimator.heads.sequential import SequentialHead, SequentialHeadWrapper
from runner.estimator.model_fn import EstimatorSpec, ModeKeys
from runner.estimator.run_config import RunConfig

__all__ = ["RNNClassifier", "RNNEstimator"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")

_LEARNING_RATE = 0.05
_CLIP_NORM = 5.0
"""Both of an optimizer given by name, as the original documents."""

_USE_DEFAULT: Final = object()
"""The cell type that is "simple_rnn", but which may also stand beside an rnn_cell_fn."""

_LAYERS = {"lstm": tf_keras.layers.LSTM, "gru": tf_keras.layers.GRU, "simple_rnn": tf_keras.layers.SimpleRNN}
_CELLS = {
    "simple_rnn": tf_keras.layers.SimpleRNNCell,
    "lstm": tf_keras.layers.LSTMCell,
    "gru": tf_keras.layers.GRUCell,
}


class RNNEstimator(Estimator):
    """A recurrent network with a head of one's own; a re-creation of tf.estimator.experimental.RNNEstimator.

    Args:
        head: A Head; one of runner.estimator.heads.SequentialHead with return_sequences.
        sequence_feature_columns: Columns whose feature is a sequence: sequence_numeric_column, or an embedding or
            indicator column over a sequence_categorical_column_*.
        context_feature_columns: Dense columns whose value is the same at all steps, and joins the input of each.
        units: Number of units of each layer, from the input up. An int with a cell type by name makes the layer of
            tf_keras of that kind.
        cell_type: "simple_rnn" (the default), "lstm", "gru", or a callable of `units` that makes a cell.
        rnn_cell_fn: Makes the cell, or a list of cells to stack, in place of units and cell_type.
        return_sequences: Whether there are logits for every step, and not for the last one of each sequence alone.
        model_dir: See Estimator.
        optimizer: A name ("Adagrad", "Adam", "Ftrl", "RMSProp", "SGD", with a learning rate of 0.05 and gradients
            clipped to a norm of 5), an optimizer, or a callable that makes one; see DNNClassifier.
        config: See Estimator.

    Raises:
        ValueError: units or cell_type are given beside rnn_cell_fn, or the head does not fit return_sequences.
    """

    def __init__(
        self,
        head: Head,
        sequence_feature_columns: Sequence[Any],
        context_feature_columns: Sequence[Any] | None = None,
        units: Sequence[int] | int | None = None,
        cell_type: Any = _USE_DEFAULT,
        rnn_cell_fn: Callable[[], Any] | None = None,
        return_sequences: bool = False,
        model_dir: str | None = None,
        optimizer: Any = "Adagrad",
        config: RunConfig | None = None,
    ) -> None:
        if return_sequences and not isinstance(head, SequentialHead):
            raise ValueError("Provided head must be a `_SequentialHead` object when `return_sequences` is set to True.")
        if rnn_cell_fn and (units or cell_type is not _USE_DEFAULT):
            raise ValueError("units and cell_type must not be specified when using rnn_cell_fn")
        optimizer = detach_optimizer(optimizer)

        def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
            training = mode == ModeKeys.TRAIN
            network = _Network(
                _rnn_layer(rnn_cell_fn, units, cell_type, return_sequences=return_sequences),
                logits_dimension=head.logits_dimension,
                sequence_feature_columns=sequence_feature_columns,
                context_feature_columns=context_feature_columns,
            )
            logits, mask = network.build(features, training=training)
            if isinstance(head, SequentialHead) and head.input_sequence_mask_key not in features:
                features = {**features, head.input_sequence_mask_key: mask}
            return head.create_estimator_spec(
                features,
                mode,
                logits,
                labels=labels,
                optimizer=_optimizer(optimizer) if training else None,
                trainable_variables=network.trainable_variables,
                update_ops=network.updates,
            )

        super().__init__(model_fn=model_fn, model_dir=model_dir, config=config)


class RNNClassifier(RNNEstimator):
    """A classifier of sequences, or of their steps; a re-creation of tf.estimator.experimental.RNNClassifier.

    Args:
        sequence_feature_columns: See RNNEstimator, as for the next five.
        context_feature_columns: Dense columns.
        units: Number of units of each layer.
        cell_type: Kind of cell.
        rnn_cell_fn: Makes the cell in place of them.
        return_sequences: Whether to classify every step. Labels, dense or sparse, and weights then have one value for
            each step, and weight_column is a name or None.
        model_dir: See Estimator.
        n_classes: Number of classes.
        weight_column: Feature with the weights of the examples: its name or a numeric column.
        label_vocabulary: Classes as strings, in order, if labels are strings.
        optimizer: See RNNEstimator.
        loss_reduction: "sum_over_batch_size" or "sum".
        sequence_mask: With return_sequences: the feature, `[batch, steps] bool`, that is False where a step is padding,
            and the key of the mask in the predictions. Made of the lengths of the sequences where there is no such
            feature.
        config: See Estimator.

    Raises:
        TypeError: sequence_mask or, with return_sequences, weight_column is no string.
        ValueError: See RNNEstimator.
    """

    def __init__(
        self,
        sequence_feature_columns: Sequence[Any],
        context_feature_columns: Sequence[Any] | None = None,
        units: Sequence[int] | int | None = None,
        cell_type: Any = _USE_DEFAULT,
        rnn_cell_fn: Callable[[], Any] | None = None,
        return_sequences: bool = False,
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: Any = "Adagrad",
        loss_reduction: str = "sum_over_batch_size",
        sequence_mask: str = "sequence_mask",
        config: RunConfig | None = None,
    ) -> None:
        head: Head = class_head(
            n_classes, weight_column=weight_column, label_vocabulary=label_vocabulary, loss_reduction=loss_reduction
        )
        if return_sequences:
            _logger.info(
                "Converting head to sequential head with `SequentialHeadWrapper` to allow sequential predictions."
            )
            head = SequentialHeadWrapper(head, sequence_length_mask=sequence_mask, feature_columns=weight_column)
        super().__init__(
            head=head,
            sequence_feature_columns=sequence_feature_columns,
            context_feature_columns=context_feature_columns,
            units=units,
            cell_type=cell_type,
            rnn_cell_fn=rnn_cell_fn,
            return_sequences=return_sequences,
            model_dir=model_dir,
            optimizer=optimizer,
            config=config,
        )


class _Network:
    """The layers from the features to the logits, under the variable names of the original."""

    def __init__(
        self,
        rnn_layer: Any,
        *,
        logits_dimension: int,
        sequence_feature_columns: Sequence[Any],
        context_feature_columns: Sequence[Any] | None,
    ) -> None:
        self._sequence = tf_keras.experimental.SequenceFeatures(sequence_feature_columns)
        self._context = DenseFeatures(context_feature_columns) if context_feature_columns else None
        self._rnn = rnn_layer
        self._logits = tf_keras.layers.Dense(
            logits_dimension, kernel_initializer=_v1.glorot_uniform_initializer(), name="logits"
        )

    @property
    def trainable_variables(self) -> list[Any]:
        return [variable for layer in self._layers for variable in layer.trainable_weights]

    @property
    def updates(self) -> list[Any]:
        return [update for layer in self._layers for update in layer.updates]

    @property
    def _layers(self) -> list[Any]:
        return [layer for layer in (self._sequence, self._context, self._rnn, self._logits) if layer is not None]

    def build(self, features: Any, *, training: bool) -> tuple[Any, Any]:
        """Makes the graph.

        Returns:
            Logits `[batch, logits_dimension]` or `[batch, steps, logits_dimension]`, and the mask `[batch, steps] bool`
            that is False where a step is padding.
        """
        if not isinstance(features, dict):
            raise ValueError(f"inputs should be a dictionary of `Tensor`s. Given type: {type(features)}")  # noqa: TRY004
        with tf.name_scope("rnn_model"):
            with tf.name_scope("sequence_input_layer"):
                inputs, lengths = self._sequence(features, training=training)
                _v1.summary.histogram("sequence_length", lengths)
                if self._context is not None:
                    inputs = _with_context(inputs, self._context(features, training=training))
            # As wide as the inputs, which may be padded beyond the longest sequence of the batch.
            mask = tf.sequence_mask(lengths, maxlen=tf.shape(inputs)[1])
            return self._logits(self._rnn(inputs, mask=mask, training=training)), mask


def _with_context(inputs: Any, context: Any) -> Any:
    """The context `[batch, n]` at the end of every step of the inputs `[batch, steps, m]`."""
    steps = tf.shape(inputs)[1]
    return tf.concat([inputs, tf.tile(context[:, tf.newaxis], [1, steps, 1])], axis=2)


def _rnn_layer(rnn_cell_fn: Callable[[], Any] | None, units: Any, cell_type: Any, *, return_sequences: bool) -> Any:
    if rnn_cell_fn is not None:
        return tf_keras.layers.RNN(rnn_cell_fn(), return_sequences=return_sequences)
    if isinstance(units, int) and isinstance(cell_type, str) and cell_type in _LAYERS:
        return _LAYERS[cell_type](units, return_sequences=return_sequences, **_initializers())
    kind = "simple_rnn" if cell_type is _USE_DEFAULT else cell_type
    cells = [_cell(number, kind) for number in units]
    return tf_keras.layers.RNN(cells[0] if len(cells) == 1 else cells, return_sequences=return_sequences)


def _cell(units: int, cell_type: Any) -> Any:
    if isinstance(cell_type, str) and cell_type in _CELLS:
        return _CELLS[cell_type](units, **_initializers())
    if not callable(cell_type):
        raise ValueError(  # noqa: TRY004 - the original raises it
            "`cell_type` should be a class producing a RNN cell, or a string specifying the cell type. "
            f"Supported strings are: {list(_CELLS)}."
        )
    cell = cell_type(units=units)
    if not hasattr(cell, "call") or not hasattr(cell, "state_size"):
        raise ValueError("RNN cell should have a `call` and `state_size` method.")
    return cell


def _initializers() -> dict[str, Any]:
    # The defaults of tf_keras draw from a generator of their own; these follow the seed of the graph.
    return {
        "kernel_initializer": _v1.glorot_uniform_initializer(),
        "recurrent_initializer": _v1.orthogonal_initializer(),
    }


def _optimizer(optimizer: Any) -> Any:
    made = make_optimizer(optimizer, learning_rate=_LEARNING_RATE)
    if isinstance(optimizer, str):
        made.clipnorm = _CLIP_NORM
    return made
