"""MultiLabelHead: any number of classes for each example."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from runner.estimator.heads.classes import Classes
from runner.estimator.heads.labels import check_labels_are_given, dense_labels, labels_in_range
from runner.estimator.heads.logits import checked_logits
from runner.estimator.heads.single_head import Examples, SingleHead
from runner.estimator.heads.thresholds import metrics_at, update_metrics_at

__all__ = ["MultiLabelHead"]

_CLASS_METRICS = ("probability_mean", "auc", "auc_precision_recall")


class MultiLabelHead(SingleHead):
    """None, one or more of the classes for each example, by sigmoid cross entropy over `[..., n_classes]` logits.

    The loss of an example is the mean over the classes. Labels are one of
      * 0 or 1 for every class, `[..., n_classes]`,
      * an integer SparseTensor of class ids, `[..., ?]`,
      * a string SparseTensor of classes from the vocabulary, `[..., ?]`.

    Args:
        n_classes: Number of classes, at least 2.
        weight_column: Name or numeric column of the weights in the features; None weighs all examples alike.
        thresholds: Probabilities, in (0, 1), from which on a class counts as predicted, each with metrics of its own:
            accuracy, precision and recall.
        label_vocabulary: Classes as strings, in order.
        loss_reduction: "sum_over_batch_size" or "sum".
        loss_fn: Takes `labels` (0 or 1, `[..., n_classes]`) and `logits`, and may take `features`; returns losses
            `[..., 1]`.
        classes_for_class_based_metrics: Ids or names of the classes that have metrics of their own: mean probability
            and both AUCs.
        name: Scope of the operations, and suffix of metrics and summaries.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        n_classes: int,
        weight_column: Any = None,
        thresholds: Iterable[float] | None = None,
        label_vocabulary: Sequence[str] | None = None,
        loss_reduction: str = "sum_over_batch_size",
        loss_fn: Callable[..., Any] | None = None,
        classes_for_class_based_metrics: Iterable[int | str] | None = None,
        name: str | None = None,
    ) -> None:
        if n_classes is None or n_classes < 2:  # noqa: PLR2004 - one class is what BinaryClassHead is for
            raise ValueError(f"n_classes must be > 1 for multi-label classification. Given: {n_classes}")
        self._thresholds = tuple(thresholds or ())
        for threshold in self._thresholds:
            if not 0.0 < threshold < 1.0:
                raise ValueError(f"thresholds must be in (0, 1) range. Given: {threshold}")
        _check_vocabulary(label_vocabulary, n_classes)
        super().__init__(weight_column=weight_column, loss_reduction=loss_reduction, loss_fn=loss_fn, name=name)
        self._classes = Classes(n_classes, label_vocabulary)
        self._watched = _class_ids(tuple(classes_for_class_based_metrics or ()), n_classes, label_vocabulary)

    @property
    def logits_dimension(self) -> int:
        """See Head."""
        return self._classes.n_classes

    def predictions(self, logits: Any, keys: Sequence[str] | None = None) -> dict[str, Any]:
        """Predictions by name.

        Args:
            logits: `[..., n_classes]`.
            keys: Some of the names below; None for all.

        Returns:
            logits and probabilities `[..., n_classes] float32`, classes (all of them) `[batch, n_classes] string`.
        """
        logits = checked_logits(logits, self.logits_dimension)
        with tf.name_scope("predictions"):
            predictions = {
                "logits": logits,
                "probabilities": tf.sigmoid(logits, name="probabilities"),
                "classes": self._classes.all_names(logits),
            }
        return self._selected(predictions, keys)

    def _processed_labels(self, labels: Any, logits: Any) -> Any:
        check_labels_are_given(labels)
        if isinstance(labels, tf.SparseTensor):
            labels = self._indicators(labels)
        labels = dense_labels(labels, logits, self.logits_dimension)
        if labels.dtype in (tf.string, tf.bool):
            raise TypeError(
                "labels must be an integer indicator Tensor with values in [0, 1], or a SparseTensor of classes. "
                f"Given dtype: {labels.dtype}."
            )
        return labels_in_range(labels, 2, message="labels must be an integer indicator Tensor with values in [0, 1]")

    def _indicators(self, labels: Any) -> Any:
        """0 or 1 for every class, `[..., n_classes] int64`, of sparse labels."""
        ids = labels.values
        if ids.dtype == tf.string:
            if self._classes.vocabulary is None:
                raise TypeError("Labels are strings, and there is no label_vocabulary to look them up in.")
            ids = self._classes.ids_of(ids)
        if not ids.dtype.is_integer:
            raise ValueError(f"Labels dtype should be integer. Instead got {ids.dtype}.")
        n_classes = self._classes.n_classes
        message = f"labels must be an integer SparseTensor with values in [0, {n_classes})"
        ids = labels_in_range(ids, n_classes, message=message)
        sparse = tf.SparseTensor(indices=labels.indices, values=ids, dense_shape=labels.dense_shape)
        return tf.cast(tf.sparse.to_indicator(sparse, n_classes), tf.int64)

    def _losses(self, labels: Any, logits: Any) -> Any:
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(labels, tf.float32), logits=logits)
        return tf.reduce_mean(losses, axis=-1, keepdims=True)

    def _own_metrics(self) -> dict[str, Any]:
        metrics = {
            "auc": tf_keras.metrics.AUC(name="auc"),
            "auc_precision_recall": tf_keras.metrics.AUC(curve="PR", name="auc_precision_recall"),
            **metrics_at(self._thresholds),
        }
        for class_id in self._watched:
            probability, auc, auc_pr = self._class_keys(class_id)
            metrics[probability] = tf_keras.metrics.Mean(name=probability)
            metrics[auc] = tf_keras.metrics.AUC(name=auc)
            metrics[auc_pr] = tf_keras.metrics.AUC(curve="PR", name=auc_pr)
        return metrics

    def _update_own_metrics(self, metrics: dict[str, Any], examples: Examples) -> None:
        labels, weights = examples.labels, examples.weights
        probabilities = self.predictions(examples.logits, ["probabilities"])["probabilities"]
        for key in ("auc", "auc_precision_recall"):
            metrics[key].update_state(labels, probabilities, sample_weight=weights)
        update_metrics_at(self._thresholds, metrics, labels, probabilities, weights)
        for class_id in self._watched:
            probability, *aucs = self._class_keys(class_id)
            of_class = probabilities[..., class_id : class_id + 1]
            metrics[probability].update_state(of_class, sample_weight=weights)
            for key in aucs:
                metrics[key].update_state(labels[..., class_id : class_id + 1], of_class, sample_weight=weights)

    def _class_keys(self, class_id: int) -> list[str]:
        vocabulary = self._classes.vocabulary
        name = f"class{class_id}" if vocabulary is None else vocabulary[class_id]
        return [f"{metric}/{name}" for metric in _CLASS_METRICS]

    def _export_outputs(self, predictions: dict[str, Any]) -> dict[str, Any]:
        output = self._classes.output(predictions["probabilities"])
        return {"serving_default": output, "classification": output}


def _check_vocabulary(vocabulary: Any, n_classes: int) -> None:
    if vocabulary is None:
        return
    if not isinstance(vocabulary, (list, tuple)):
        # The original's type, as everywhere where a head is made.
        raise ValueError(f"label_vocabulary must be a list or tuple. Given type: {type(vocabulary)}")  # noqa: TRY004
    if len(vocabulary) != n_classes:
        raise ValueError(f"Length of label_vocabulary must be n_classes ({n_classes}). Given: {len(vocabulary)}")


def _class_ids(classes: tuple[Any, ...], n_classes: int, vocabulary: Sequence[str] | None) -> tuple[int, ...]:
    """Ids of the classes, which are given as ids or, with a vocabulary, as names."""
    if classes and isinstance(classes[0], str):
        if not vocabulary:
            raise ValueError("label_vocabulary must be provided when classes_for_class_based_metrics are strings.")
        return tuple(vocabulary.index(each) for each in classes)
    for class_id in classes:
        if not 0 <= class_id < n_classes:
            raise ValueError(
                f"All classes_for_class_based_metrics must be in range [0, {n_classes - 1}]. Given: {class_id}"
            )
    return classes
