"""RegressionHead, and its kinds for counts and for probabilities."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

# TensorFlow exports it under no public name since tf.estimator is gone.
from tensorflow.python.saved_model.model_utils.export_output import RegressionOutput

from runner.estimator.heads.labels import dense_labels, labels_in_range
from runner.estimator.heads.logits import checked_logits
from runner.estimator.heads.single_head import Examples, SingleHead

__all__ = ["LogisticRegressionHead", "PoissonRegressionHead", "RegressionHead"]


class RegressionHead(SingleHead):
    """Real values for each example, by the squared error.

    Args:
        label_dimension: Number of values for each example.
        weight_column: Name or numeric column of the weights in the features, of examples or of single values; None
            weighs all alike.
        loss_reduction: "sum_over_batch_size" (which divides by the number of values) or "sum".
        loss_fn: Takes `labels` (float32) and `logits`, and may take `features`; returns losses of the same shape.
        inverse_link_fn: Makes predictions of logits; None for the logits themselves.
        name: Scope of the operations, and suffix of metrics and summaries.

    Raises:
        ValueError: An argument is out of its range.
    """

    _per_logit_weights = True

    def __init__(
        self,
        label_dimension: int = 1,
        weight_column: Any = None,
        loss_reduction: str = "sum_over_batch_size",
        loss_fn: Callable[..., Any] | None = None,
        inverse_link_fn: Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> None:
        if label_dimension < 1:
            raise ValueError(f"Invalid label_dimension {label_dimension}.")
        super().__init__(weight_column=weight_column, loss_reduction=loss_reduction, loss_fn=loss_fn, name=name)
        self._label_dimension = label_dimension
        self._inverse_link_fn = inverse_link_fn

    @property
    def logits_dimension(self) -> int:
        """See Head."""
        return self._label_dimension

    @property
    def _loss_dimension(self) -> int:
        return self._label_dimension

    def predictions(self, logits: Any) -> dict[str, Any]:  # type: ignore[override]  # the original has no keys here
        """Predictions by name.

        Args:
            logits: `[..., label_dimension]`.

        Returns:
            predictions `[..., label_dimension] float32`; with an inverse_link_fn also the logits.
        """
        logits = checked_logits(logits, self.logits_dimension)
        with tf.name_scope("predictions"):
            if self._inverse_link_fn is None:
                return {"predictions": logits}
            return {"predictions": self._inverse_link_fn(logits), "logits": logits}

    def _processed_labels(self, labels: Any, logits: Any) -> Any:
        return tf.cast(dense_labels(labels, logits, self._label_dimension), tf.float32)

    def _losses(self, labels: Any, logits: Any) -> Any:
        return tf.math.squared_difference(labels, logits)

    def _own_metrics(self) -> dict[str, Any]:
        return {name: tf_keras.metrics.Mean(name=name) for name in ("prediction/mean", "label/mean")}

    def _update_own_metrics(self, metrics: dict[str, Any], examples: Examples) -> None:
        predictions = self.predictions(examples.logits)["predictions"]
        metrics["prediction/mean"].update_state(predictions, sample_weight=examples.weights)
        metrics["label/mean"].update_state(examples.labels, sample_weight=examples.weights)

    def _export_outputs(self, predictions: dict[str, Any]) -> dict[str, Any]:
        output = RegressionOutput(value=predictions["predictions"])
        return {"serving_default": output, "regression": output}


class PoissonRegressionHead(RegressionHead):
    """Counts for each example, by the Poisson loss of logits that are logarithms of the expected counts.

    Args:
        label_dimension: Number of counts for each example.
        weight_column: See RegressionHead.
        loss_reduction: See RegressionHead.
        compute_full_loss: Whether the loss has the term that depends on the labels alone (Stirling's approximation).
        name: See RegressionHead.
    """

    def __init__(
        self,
        label_dimension: int = 1,
        weight_column: Any = None,
        loss_reduction: str = "sum_over_batch_size",
        compute_full_loss: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            label_dimension=label_dimension,
            weight_column=weight_column,
            loss_reduction=loss_reduction,
            inverse_link_fn=tf.exp,
            name=name,
        )
        self._compute_full_loss = compute_full_loss

    def _losses(self, labels: Any, logits: Any) -> Any:
        return tf.nn.log_poisson_loss(labels, logits, compute_full_loss=self._compute_full_loss)


class LogisticRegressionHead(RegressionHead):
    """A probability for each example, by sigmoid cross entropy; labels are numbers from 0 to 1.

    Args:
        weight_column: See RegressionHead.
        loss_reduction: See RegressionHead.
        name: See RegressionHead.
    """

    def __init__(
        self, weight_column: Any = None, loss_reduction: str = "sum_over_batch_size", name: str | None = None
    ) -> None:
        super().__init__(
            weight_column=weight_column, loss_reduction=loss_reduction, inverse_link_fn=tf.sigmoid, name=name
        )

    def _losses(self, labels: Any, logits: Any) -> Any:
        labels = labels_in_range(labels, 2, message="Labels must be in range [0, 1]")
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
