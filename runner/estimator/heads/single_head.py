"""What all heads share that have one set of logits and one of labels."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

# TensorFlow exports it under no public name since tf.estimator is gone.
from tensorflow.python.saved_model.model_utils.export_output import PredictOutput

from runner.estimator.heads.head import Head
from runner.estimator.heads.logits import checked_logits
from runner.estimator.heads.losses import call_loss_fn, check_loss_fn, check_loss_reduction, reduce_losses, regularized
from runner.estimator.heads.train_op import make_train_op, summarize_losses
from runner.estimator.heads.weights import example_weights
from runner.estimator.model_fn import EstimatorSpec, ModeKeys

__all__ = ["Examples", "SingleHead"]


class Examples(NamedTuple):
    """One batch, as the metrics of a head see it.

    Attributes:
        logits: `[D0, ..., DN, logits_dimension] float32`.
        labels: As the head understands them, `[D0, ..., DN, K]`.
        losses: `[D0, ..., DN, K] float32`.
        weights: `[D0, ..., DN, 1 or K] float32`; None for 1.
    """

    logits: Any
    labels: Any
    losses: Any
    weights: Any


class SingleHead(Head):
    """A head of one objective.

    Args:
        weight_column: Name or numeric column of the weights in the features; None weighs all examples alike.
        loss_reduction: "sum_over_batch_size" or "sum".
        loss_fn: Makes the losses of labels and logits, and of features if it takes them; None for the usual one.
        name: See Head.
    """

    _per_logit_weights = False

    def __init__(
        self, *, weight_column: Any, loss_reduction: str, loss_fn: Callable[..., Any] | None, name: str | None
    ) -> None:
        check_loss_reduction(loss_reduction)
        if loss_fn is not None:
            check_loss_fn(loss_fn)
        self._weight_column = weight_column
        self._loss_reduction = loss_reduction
        self._loss_fn = loss_fn
        self._name = name

    @property
    def name(self) -> str | None:
        """See Head."""
        return self._name

    @property
    def loss_reduction(self) -> str:
        """See Head."""
        return self._loss_reduction

    @property
    def _loss_dimension(self) -> int:
        """Size of the last dimension of the losses."""
        return 1

    @abstractmethod
    def _processed_labels(self, labels: Any, logits: Any) -> Any:
        """Labels as the losses and metrics need them, checked."""

    @abstractmethod
    def _losses(self, labels: Any, logits: Any) -> Any:
        """The usual losses of processed labels, `[D0, ..., DN, K]`."""

    @abstractmethod
    def _own_metrics(self) -> dict[str, Any]:
        """New metrics other than those of the losses, by their name without that of the head."""

    @abstractmethod
    def _update_own_metrics(self, metrics: dict[str, Any], examples: Examples) -> None:
        """Tells the metrics of `_own_metrics` about a batch."""

    @abstractmethod
    def _export_outputs(self, predictions: dict[str, Any]) -> dict[str, Any]:
        """ExportOutputs by signature name, other than `predict`."""

    def loss(
        self,
        labels: Any,
        logits: Any,
        features: Any = None,
        mode: str | None = None,  # noqa: ARG002 - no head of this kind needs it
        regularization_losses: Sequence[Any] | None = None,
    ) -> Any:
        """See Head."""
        with tf.name_scope("losses"):
            examples = self._examples(features, logits, labels)
            loss = reduce_losses(examples.losses, examples.weights, self._loss_reduction)
            return regularized(loss, regularization_losses)

    def metrics(self, regularization_losses: Sequence[Any] | None = None) -> dict[str, Any]:
        """See Head."""
        with tf.name_scope("metrics"):
            metrics = {"average_loss": tf_keras.metrics.Mean(name="average_loss"), **self._own_metrics()}
            if regularization_losses is not None:
                metrics["regularization_loss"] = tf_keras.metrics.Mean(name="regularization_loss")
        return {self._summary_key(key): metric for key, metric in metrics.items()}

    def update_metrics(  # type: ignore[override]  # the original has no mode here either
        self,
        eval_metrics: dict[str, Any],
        features: Any,
        logits: Any,
        labels: Any,
        regularization_losses: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        """See Head."""
        examples = self._examples(features, logits, labels)
        suffix = self._summary_key("")
        # There may be those of other heads too, of other names.
        metrics = {key.removesuffix(suffix): each for key, each in eval_metrics.items() if key.endswith(suffix)}
        metrics["average_loss"].update_state(examples.losses, sample_weight=examples.weights)
        self._update_own_metrics(metrics, examples)
        if regularization_losses is not None:
            metrics["regularization_loss"].update_state(tf.add_n(regularization_losses))
        return eval_metrics

    def create_estimator_spec(
        self,
        features: Any,
        mode: str,
        logits: Any,
        labels: Any = None,
        optimizer: Any = None,
        trainable_variables: Sequence[Any] | None = None,
        train_op_fn: Callable[[Any], Any] | None = None,
        update_ops: Sequence[Any] | None = None,
        regularization_losses: Sequence[Any] | None = None,
    ) -> EstimatorSpec:
        """See Head."""
        with tf.name_scope(self.name or "head"):
            predictions = self.predictions(logits)
            if mode == ModeKeys.PREDICT:
                outputs = {**self._export_outputs(predictions), "predict": PredictOutput(predictions)}
                return EstimatorSpec(mode, predictions=predictions, export_outputs=outputs)
            loss = self.loss(labels, logits, features, mode, regularization_losses)
            if mode == ModeKeys.EVAL:
                metrics = self.update_metrics(
                    self.metrics(regularization_losses), features, logits, labels, regularization_losses
                )
                return EstimatorSpec(mode, predictions=predictions, loss=loss, eval_metric_ops=metrics)
            train_op = make_train_op(
                loss,
                optimizer=optimizer,
                trainable_variables=trainable_variables,
                train_op_fn=train_op_fn,
                update_ops=update_ops,
            )
        summarize_losses(loss, regularization_losses, head_name=self.name)
        return EstimatorSpec(mode, predictions=predictions, loss=loss, train_op=train_op)

    def _examples(self, features: Any, logits: Any, labels: Any) -> Examples:
        logits = checked_logits(logits, self.logits_dimension)
        labels = self._processed_labels(labels, logits)
        if self._loss_fn is None:
            losses = self._losses(labels, logits)
        else:
            losses = call_loss_fn(self._loss_fn, labels, logits, features, dimension=self._loss_dimension)
        weights = example_weights(features, self._weight_column, logits, per_logit=self._per_logit_weights)
        return Examples(logits, labels, losses, weights)

    @staticmethod
    def _selected(predictions: dict[str, Any], keys: Sequence[str] | None) -> dict[str, Any]:
        """The predictions of these keys; all of them without keys."""
        for key in keys or ():
            if key not in predictions:
                raise ValueError(
                    f"Prediction key must be in PredictionKeys, given: {key}."
                    f"Valid prediction keys include {list(predictions)}."
                )
        return {key: value for key, value in predictions.items() if not keys or key in keys}
