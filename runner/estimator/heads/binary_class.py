"""BinaryClassHead: one of two classes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

# TensorFlow exports it under no public name since tf.estimator is gone.
from tensorflow.python.saved_model.model_utils.export_output import RegressionOutput

from runner.estimator.heads.classes import Classes
from runner.estimator.heads.labels import dense_labels, labels_in_range
from runner.estimator.heads.logits import checked_logits
from runner.estimator.heads.single_head import Examples, SingleHead
from runner.estimator.heads.thresholds import metrics_at, update_metrics_at

__all__ = ["BinaryClassHead"]


class BinaryClassHead(SingleHead):
    """One of two classes for each example, by sigmoid cross entropy over `[..., 1]` logits.

    Args:
        weight_column: Name or numeric column of the weights in the features; None weighs all examples alike.
        thresholds: Probabilities, in (0, 1), from which on the second class counts as predicted, each with metrics of
            its own: accuracy, precision and recall.
        label_vocabulary: The two classes as strings; None means that labels are numbers from 0 to 1.
        loss_reduction: "sum_over_batch_size" or "sum".
        loss_fn: Takes `labels` (float32) and `logits`, and may take `features`; returns losses `[..., 1]`.
        name: Scope of the operations, and suffix of metrics and summaries.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        weight_column: Any = None,
        thresholds: Iterable[float] | None = None,
        label_vocabulary: Sequence[str] | None = None,
        loss_reduction: str = "sum_over_batch_size",
        loss_fn: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> None:
        thresholds = tuple(thresholds or ())
        if any(threshold <= 0.0 or threshold >= 1.0 for threshold in thresholds):
            raise ValueError(f"thresholds not in (0, 1): {(thresholds,)}.")
        super().__init__(weight_column=weight_column, loss_reduction=loss_reduction, loss_fn=loss_fn, name=name)
        self._thresholds = thresholds
        self._classes = Classes(2, label_vocabulary)

    @property
    def logits_dimension(self) -> int:
        """See Head."""
        return 1

    def predictions(self, logits: Any, keys: Sequence[str] | None = None) -> dict[str, Any]:
        """Predictions by name.

        Args:
            logits: `[..., 1]`.
            keys: Some of the names below; None for all.

        Returns:
            logits and logistic `[..., 1] float32`, probabilities `[..., 2] float32`, class_ids `[..., 1] int64`,
            classes `[..., 1] string`, all_class_ids `[batch, 2] int32`, all_classes `[batch, 2] string`.
        """
        logits = checked_logits(logits, self.logits_dimension)
        with tf.name_scope("predictions"):
            two_class_logits = tf.concat([tf.zeros_like(logits), logits], axis=-1, name="two_class_logits")
            ids = tf.expand_dims(tf.argmax(two_class_logits, axis=-1, name="class_ids"), axis=-1)
            predictions = {
                "logits": logits,
                "logistic": tf.sigmoid(logits, name="logistic"),
                "probabilities": tf.nn.softmax(two_class_logits, name="probabilities"),
                "class_ids": ids,
                "classes": self._classes.names_of(ids),
                "all_class_ids": self._classes.all_ids(logits),
                "all_classes": self._classes.all_names(logits),
            }
        return self._selected(predictions, keys)

    def _processed_labels(self, labels: Any, logits: Any) -> Any:
        labels = dense_labels(labels, logits, 1)
        if self._classes.vocabulary is not None:
            labels = self._classes.ids_of(labels)
        elif labels.dtype == tf.string:
            raise ValueError(f"Labels dtype should be a number. Instead got {labels.dtype}. Pass a label_vocabulary.")
        labels = tf.cast(labels, tf.int32) if labels.dtype == tf.bool else labels
        return tf.cast(labels_in_range(labels, 2), tf.float32)

    def _losses(self, labels: Any, logits: Any) -> Any:
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)

    def _own_metrics(self) -> dict[str, Any]:
        return {
            "accuracy": tf_keras.metrics.Accuracy(name="accuracy"),
            "precision": tf_keras.metrics.Precision(name="precision"),
            "recall": tf_keras.metrics.Recall(name="recall"),
            "prediction/mean": tf_keras.metrics.Mean(name="prediction/mean"),
            "label/mean": tf_keras.metrics.Mean(name="label/mean"),
            "accuracy_baseline": _AccuracyBaseline(name="accuracy_baseline"),
            "auc": tf_keras.metrics.AUC(name="auc"),
            "auc_precision_recall": tf_keras.metrics.AUC(curve="PR", name="auc_precision_recall"),
            **metrics_at(self._thresholds),
        }

    def _update_own_metrics(self, metrics: dict[str, Any], examples: Examples) -> None:
        labels, weights = examples.labels, examples.weights
        predictions = self.predictions(examples.logits, ["class_ids", "logistic"])
        logistic = predictions["logistic"]
        for key in ("accuracy", "precision", "recall"):
            metrics[key].update_state(labels, predictions["class_ids"], sample_weight=weights)
        for key in ("auc", "auc_precision_recall"):
            metrics[key].update_state(labels, logistic, sample_weight=weights)
        for key in ("label/mean", "accuracy_baseline"):
            metrics[key].update_state(labels, sample_weight=weights)
        metrics["prediction/mean"].update_state(logistic, sample_weight=weights)
        update_metrics_at(self._thresholds, metrics, labels, logistic, weights)

    def _export_outputs(self, predictions: dict[str, Any]) -> dict[str, Any]:
        output = self._classes.output(predictions["probabilities"])
        return {
            "serving_default": output,
            "classification": output,
            "regression": RegressionOutput(value=predictions["logistic"]),
        }


class _AccuracyBaseline(tf_keras.metrics.Mean):
    """Of the labels: the accuracy of predicting the more frequent class for all examples."""

    def result(self) -> Any:
        return tf.math.divide_no_nan(tf.maximum(self.total, self.count - self.total), self.count)
