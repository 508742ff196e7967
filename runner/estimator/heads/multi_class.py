"""MultiClassHead: one of more than two classes."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from runner.estimator.heads.classes import Classes
from runner.estimator.heads.labels import dense_labels, labels_in_range
from runner.estimator.heads.logits import checked_logits
from runner.estimator.heads.single_head import Examples, SingleHead

__all__ = ["MultiClassHead"]


class MultiClassHead(SingleHead):
    """One of more than two classes for each example, by softmax cross entropy over `[..., n_classes]` logits.

    Args:
        n_classes: Number of classes, more than 2; for two there is BinaryClassHead.
        weight_column: Name or numeric column of the weights in the features; None weighs all examples alike.
        label_vocabulary: Classes as strings, in order; None means that labels are class ids from 0 to n_classes - 1.
        loss_reduction: "sum_over_batch_size" or "sum".
        loss_fn: Takes `labels` (class ids) and `logits`, and may take `features`; returns losses `[..., 1]`.
        name: Scope of the operations, and suffix of metrics and summaries.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        n_classes: int,
        weight_column: Any = None,
        label_vocabulary: Sequence[str] | None = None,
        loss_reduction: str = "sum_over_batch_size",
        loss_fn: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> None:
        if n_classes is None:
            raise ValueError("n_classes cannot be None")
        super().__init__(weight_column=weight_column, loss_reduction=loss_reduction, loss_fn=loss_fn, name=name)
        if n_classes <= 2:  # noqa: PLR2004 - two classes have a head of their own
            raise ValueError(f"n_classes must be > 2: {n_classes}.")
        self._classes = Classes(n_classes, label_vocabulary)

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
            logits and probabilities `[..., n_classes] float32`, class_ids `[..., 1] int64`, classes `[..., 1] string`,
            all_class_ids `[batch, n_classes] int32`, all_classes `[batch, n_classes] string`.
        """
        logits = checked_logits(logits, self.logits_dimension)
        with tf.name_scope("predictions"):
            probabilities = tf.nn.softmax(logits, name="probabilities")
            ids = tf.expand_dims(tf.argmax(logits, axis=-1, name="class_ids"), axis=-1)
            predictions = {
                "logits": logits,
                "probabilities": probabilities,
                "class_ids": ids,
                "classes": self._classes.names_of(ids),
                "all_class_ids": self._classes.all_ids(logits),
                "all_classes": self._classes.all_names(logits),
            }
        return self._selected(predictions, keys)

    def _processed_labels(self, labels: Any, logits: Any) -> Any:
        labels = dense_labels(labels, logits, 1)
        if self._classes.vocabulary is None:
            if not labels.dtype.is_integer:
                advice = " Pass a label_vocabulary." if labels.dtype == tf.string else ""
                raise ValueError(f"Labels dtype should be integer. Instead got {labels.dtype}.{advice}")
        else:
            if labels.dtype != tf.string:
                raise ValueError(f"Labels dtype should be string if there is a vocabulary. Instead got {labels.dtype}")
            labels = self._classes.ids_of(labels)
        return labels_in_range(labels, self._classes.n_classes)

    def _losses(self, labels: Any, logits: Any) -> Any:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.squeeze(labels, -1), logits=logits)
        return tf.expand_dims(losses, -1)

    def _own_metrics(self) -> dict[str, Any]:
        return {"accuracy": tf_keras.metrics.Accuracy(name="accuracy")}

    def _update_own_metrics(self, metrics: dict[str, Any], examples: Examples) -> None:
        ids = self.predictions(examples.logits, ["class_ids"])["class_ids"]
        metrics["accuracy"].update_state(examples.labels, ids, sample_weight=examples.weights)

    def _export_outputs(self, predictions: dict[str, Any]) -> dict[str, Any]:
        output = self._classes.output(predictions["probabilities"])
        return {"serving_default": output, "classification": output}
