"""Heads of classifiers: from logits to loss, predictions and metrics.

Names and values follow tf.estimator.MultiClassHead and tf.estimator.BinaryClassHead of TensorFlow 2.15.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.model_fn import EstimatorSpec, ModeKeys

__all__ = ["BinaryClassHead", "ClassHead", "MultiClassHead"]

_v1 = tf.compat.v1


class ClassHead(ABC):
    """What binary and multi-class classification share.

    Args:
        n_classes: Number of classes.
        weight_column: Name or numeric column of the example weights in the features; None weighs all examples alike.
        label_vocabulary: Classes as strings, in order; None means that labels are int64 class ids.
        loss_reduction: A tf.keras.losses.Reduction value: how the losses of a batch become one.
    """

    logits_dimension: int
    _label_dtype = tf.int64

    def __init__(
        self,
        n_classes: int,
        *,
        weight_column: Any = None,
        label_vocabulary: Sequence[str] | None = None,
        loss_reduction: str = "sum_over_batch_size",
    ) -> None:
        if label_vocabulary is not None and (isinstance(label_vocabulary, str) or len(label_vocabulary) != n_classes):
            raise ValueError(f"label_vocabulary should be a list of {n_classes} classes. Given: {label_vocabulary}")
        if loss_reduction not in ("sum_over_batch_size", "sum", "none"):
            raise ValueError(f"Invalid Reduction Key {loss_reduction}. Expected sum_over_batch_size or sum.")
        if loss_reduction == "none":
            raise ValueError("loss_reduction `none` leaves no scalar to minimize; use sum_over_batch_size or sum.")
        self.n_classes = n_classes
        self._weight_column = weight_column
        self._label_vocabulary = list(label_vocabulary) if label_vocabulary is not None else None
        self._loss_reduction = loss_reduction

    def create_estimator_spec(
        self, features: dict[str, Any], labels: Any, mode: str, *, logits: Any, train_op_fn: Callable[[Any], Any]
    ) -> EstimatorSpec:
        """The EstimatorSpec of one call of a model_fn.

        Args:
            features: As given to the model_fn.
            labels: `[batch]` or `[batch, 1]`; None when predicting.
            mode: One of ModeKeys.
            logits: `[batch, logits_dimension] float32`.
            train_op_fn: Makes the training op of the loss.
        """
        with tf.name_scope("head"):
            predictions = self._predictions(logits)
        if mode == ModeKeys.PREDICT:
            return EstimatorSpec(mode, predictions=predictions)
        with tf.name_scope("head"):
            label_ids = self._label_ids(labels, logits)
            weights = self._weights(features)
            losses = self._losses(label_ids, logits)
            loss = self._reduce(losses, weights)
        if mode == ModeKeys.EVAL:
            metrics = self._metrics(predictions, label_ids, losses, weights)
            return EstimatorSpec(mode, predictions=predictions, loss=loss, eval_metric_ops=metrics)
        updates = _v1.get_collection(_v1.GraphKeys.UPDATE_OPS)
        with tf.control_dependencies(updates):
            return EstimatorSpec(mode, predictions=predictions, loss=loss, train_op=train_op_fn(loss))

    @abstractmethod
    def _predictions(self, logits: Any) -> dict[str, Any]:
        """Predictions by name, each `[batch, ...]`."""

    @abstractmethod
    def _losses(self, label_ids: Any, logits: Any) -> Any:
        """Loss of every example, `[batch, 1] float32`."""

    @abstractmethod
    def _metrics(self, predictions: dict[str, Any], label_ids: Any, losses: Any, weights: Any) -> dict[str, Any]:
        """Metrics by name, as (value, update) tensors."""

    def _class_predictions(self, logits: Any, class_ids: Any) -> dict[str, Any]:
        """class_ids and classes `[batch, 1]`, and all of either `[batch, n_classes]`."""
        names = tf.constant(self._label_vocabulary or [str(index) for index in range(self.n_classes)])
        batch = tf.shape(logits)[0]
        class_ids = tf.expand_dims(class_ids, axis=-1)
        return {
            "class_ids": class_ids,
            "classes": tf.gather(names, class_ids),
            "all_class_ids": tf.tile(tf.range(self.n_classes)[tf.newaxis], [batch, 1]),
            "all_classes": tf.tile(names[tf.newaxis], [batch, 1]),
        }

    def _label_ids(self, labels: Any, logits: Any) -> Any:
        """Labels as class ids `[batch, 1]`, checked against the number of classes."""
        if labels is None:
            raise ValueError(
                "You must provide a labels Tensor. Given: None. input_fn should return (features, labels)."
            )
        if isinstance(labels, dict):
            raise ValueError(f"labels should be a tensor, not a dict; given the keys {sorted(labels)}.")  # noqa: TRY004
        labels = tf.sparse.to_dense(labels) if isinstance(labels, tf.SparseTensor) else tf.convert_to_tensor(labels)
        labels = tf.expand_dims(labels, -1) if labels.shape.rank == 1 else labels
        return self._looked_up(labels, logits)

    def _looked_up(self, labels: Any, logits: Any) -> Any:
        if self._label_vocabulary is not None:
            if labels.dtype != tf.string:
                raise ValueError(
                    f"Labels dtype should be string when there is a vocabulary. Instead got {labels.dtype}"
                )
            keys = tf.constant(self._label_vocabulary)
            initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.range(self.n_classes, dtype=tf.int64))
            labels = tf.lookup.StaticHashTable(initializer, default_value=-1).lookup(labels)
        else:
            self._check_class_ids(labels)
        ids = tf.cast(labels, self._label_dtype)
        last = tf.constant(self.n_classes - 1, ids.dtype)
        checks = [
            tf.debugging.assert_less_equal(ids, last, message=f"Labels must be <= n_classes - 1: {self.n_classes - 1}"),
            tf.debugging.assert_non_negative(ids, message="Labels must be >= 0"),
            tf.debugging.assert_equal(
                tf.shape(ids)[0], tf.shape(logits)[0], message="labels and logits differ in batch"
            ),
        ]
        with tf.control_dependencies(checks):
            return tf.ensure_shape(tf.identity(ids), [None, 1])

    def _check_class_ids(self, labels: Any) -> None:
        if not labels.dtype.is_integer:
            raise ValueError(f"Labels dtype should be integer. Instead got {labels.dtype}.{_advice(labels)}")

    def _weights(self, features: dict[str, Any]) -> Any:
        """Weights of the examples, `[batch, 1] float32`, or 1."""
        if self._weight_column is None:
            return tf.constant(1.0)
        column = self._weight_column
        if isinstance(column, str):
            column = tf.feature_column.numeric_column(column)
        weights = column.get_dense_tensor(tf.__internal__.feature_column.FeatureTransformationCache(features), None)
        return tf.reshape(weights, [-1, 1])

    def _reduce(self, losses: Any, weights: Any) -> Any:
        weighted = losses * weights
        total = tf.reduce_sum(weighted)
        if self._loss_reduction == "sum":
            return total
        return total / tf.cast(tf.size(weighted), total.dtype)


class MultiClassHead(ClassHead):
    """More than two classes: softmax cross entropy over `[batch, n_classes]` logits."""

    def __init__(self, n_classes: int, **kwargs: Any) -> None:
        if n_classes <= 2:  # noqa: PLR2004 - two classes have a head of their own
            raise ValueError(f"n_classes must be > 2: {n_classes}.")
        super().__init__(n_classes, **kwargs)
        self.logits_dimension = n_classes

    def _predictions(self, logits: Any) -> dict[str, Any]:
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits, name="probabilities"),
            **self._class_predictions(logits, tf.argmax(logits, axis=-1)),
        }

    def _losses(self, label_ids: Any, logits: Any) -> Any:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.squeeze(label_ids, -1), logits=logits)
        return tf.expand_dims(losses, -1)

    def _metrics(self, predictions: dict[str, Any], label_ids: Any, losses: Any, weights: Any) -> dict[str, Any]:
        return {
            "accuracy": _v1.metrics.accuracy(label_ids, predictions["class_ids"], weights=weights),
            "average_loss": _v1.metrics.mean(losses, weights=weights),
        }


class BinaryClassHead(ClassHead):
    """Two classes: sigmoid cross entropy over `[batch, 1]` logits."""

    logits_dimension = 1
    _label_dtype = tf.float32

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(2, **kwargs)

    def _check_class_ids(self, labels: Any) -> None:
        # As in the original, what lies between the two classes is a label too, and its loss is that of a probability.
        if not (labels.dtype.is_integer or labels.dtype.is_floating or labels.dtype.is_bool):
            raise ValueError(f"Labels dtype should be a number. Instead got {labels.dtype}.{_advice(labels)}")

    def _predictions(self, logits: Any) -> dict[str, Any]:
        two_class_logits = tf.concat([tf.zeros_like(logits), logits], axis=-1)
        return {
            "logits": logits,
            "logistic": tf.sigmoid(logits, name="logistic"),
            "probabilities": tf.nn.softmax(two_class_logits, name="probabilities"),
            **self._class_predictions(logits, tf.argmax(two_class_logits, axis=-1)),
        }

    def _losses(self, label_ids: Any, logits: Any) -> Any:
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=label_ids, logits=logits)

    def _metrics(self, predictions: dict[str, Any], label_ids: Any, losses: Any, weights: Any) -> dict[str, Any]:
        logistic, class_ids = predictions["logistic"], predictions["class_ids"]
        label_mean = _v1.metrics.mean(label_ids, weights=weights)
        return {
            "accuracy": _v1.metrics.accuracy(label_ids, class_ids, weights=weights),
            "accuracy_baseline": (tf.maximum(label_mean[0], 1 - label_mean[0]), label_mean[1]),
            "auc": _v1.metrics.auc(label_ids, logistic, weights=weights, summation_method="careful_interpolation"),
            "auc_precision_recall": _v1.metrics.auc(
                label_ids, logistic, weights=weights, curve="PR", summation_method="careful_interpolation"
            ),
            "average_loss": _v1.metrics.mean(losses, weights=weights),
            "label/mean": label_mean,
            "precision": _v1.metrics.precision(label_ids, class_ids, weights=weights),
            "prediction/mean": _v1.metrics.mean(logistic, weights=weights),
            "recall": _v1.metrics.recall(label_ids, class_ids, weights=weights),
        }


def _advice(labels: Any) -> str:
    return " Pass a label_vocabulary." if labels.dtype == tf.string else ""
