"""MultiHead: several objectives for one model."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

# TensorFlow exports it under no public name since tf.estimator is gone.
from tensorflow.python.saved_model.model_utils.export_output import PredictOutput

from runner.estimator.heads.head import Head
from runner.estimator.heads.labels import check_labels_are_given
from runner.estimator.heads.losses import regularized
from runner.estimator.heads.train_op import make_train_op, summarize_losses
from runner.estimator.model_fn import EstimatorSpec, ModeKeys

__all__ = ["MultiHead"]

_DEFAULT = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


class MultiHead(Head):
    """Several heads over one model: the loss is the sum of theirs, and the first is served by default.

    Labels are a dict, by the names of the heads. So may be the logits; as one tensor they are split among the heads
    along the last dimension, in order. Predictions are by (name of the head, its key), metrics by key/name.

    Args:
        heads: Heads with names.
        head_weights: Factors of the heads' losses in the sum; None for 1.

    Raises:
        ValueError: There are no heads, one has no name, or the weights are of another number.
    """

    def __init__(self, heads: Sequence[Head], head_weights: Sequence[float] | None = None) -> None:
        if not heads:
            raise ValueError(f"Must specify heads. Given: {heads}")
        if head_weights and len(head_weights) != len(heads):
            raise ValueError(
                f"heads and head_weights must have the same size. Given len(heads): {len(heads)}. "
                f"Given len(head_weights): {len(head_weights)}."
            )
        for head in heads:
            if head.name is None:
                raise ValueError(f"All given heads must have name specified. Given: {head}")
        self._heads = {str(head.name): head for head in heads}
        if len(self._heads) < len(heads):
            raise ValueError(f"The heads must have different names. Given: {[head.name for head in heads]}")
        self._head_weights = tuple(head_weights or ())

    @property
    def name(self) -> str:
        """The names of the heads, joined by underscores."""
        return "_".join(self._heads)

    @property
    def logits_dimension(self) -> int:
        """The sum of those of the heads."""
        return sum(head.logits_dimension for head in self._heads.values())

    @property
    def loss_reduction(self) -> str:
        """The one that all heads have.

        Raises:
            ValueError: They differ.
        """
        reductions = [head.loss_reduction for head in self._heads.values()]
        if len(set(reductions)) > 1:
            raise ValueError(f"The loss_reduction must be the same for different heads. Given: {reductions}")
        return reductions[0]

    def loss(
        self,
        labels: Any,
        logits: Any,
        features: Any = None,
        mode: str | None = None,
        regularization_losses: Sequence[Any] | None = None,
    ) -> Any:
        """See Head; labels and logits are by the name of the head."""
        logits, labels = self._by_head(logits), self._checked_labels(labels)
        losses = [
            head.loss(labels=labels[name], logits=logits[name], features=features, mode=mode)
            for name, head in self._heads.items()
        ]
        return self._merged(losses, regularization_losses)

    def predictions(
        self,
        logits: Any,
        keys: Sequence[str] | None = None,  # noqa: ARG002 - as in the original, the heads make all of theirs
    ) -> dict[Any, Any]:
        """Predictions of all heads, by (name of the head, its key).

        Args:
            logits: By the name of the head, or `[..., logits_dimension]`.
            keys: Has no effect.
        """
        logits = self._by_head(logits)
        with tf.name_scope("merge_pred"):
            return _by_pair({name: head.predictions(logits=logits[name]) for name, head in self._heads.items()})

    def metrics(self, regularization_losses: Sequence[Any] | None = None) -> dict[str, Any]:
        """The metrics of the heads' losses; those of the heads themselves come with the first update."""
        with tf.name_scope("merge_eval"):
            metrics = {key: tf_keras.metrics.Mean(name=key) for key in map(_loss_key, self._heads)}
            if regularization_losses is not None:
                key = self._summary_key("regularization_loss")
                metrics[key] = tf_keras.metrics.Mean(name="regularization_loss")
        return metrics

    def update_metrics(  # type: ignore[override]  # the original has no mode here either
        self,
        eval_metrics: dict[str, Any],
        features: Any,
        logits: Any,
        labels: Any,
        regularization_losses: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        """See Head; adds the metrics of the heads."""
        logits, labels = self._by_head(logits), self._checked_labels(labels)
        if regularization_losses is not None:
            eval_metrics[self._summary_key("regularization_loss")].update_state(tf.add_n(regularization_losses))
        for name, head in self._heads.items():
            eval_metrics[_loss_key(name)].update_state(
                head.loss(labels=labels[name], logits=logits[name], features=features)
            )
            of_head = head.update_metrics(head.metrics(), features, logits[name], labels[name])
            eval_metrics.update(of_head or {})
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
        """See Head; labels and logits are by the name of the head.

        Raises:
            ValueError: The mode is unknown, logits or labels of a head are missing, or the arguments do not fit.
        """
        if mode not in (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT):
            raise ValueError(f"mode={mode} unrecognized")
        if mode != ModeKeys.PREDICT:
            labels = self._checked_labels(labels)
        with tf.name_scope(self.name):
            logits = self._by_head(logits)
            if mode == ModeKeys.EVAL:
                return self._evaluation(features, logits, labels, regularization_losses)
            specs = {
                name: head.create_estimator_spec(
                    features=features,
                    mode=mode,
                    logits=logits[name],
                    labels=labels[name] if labels else None,
                    train_op_fn=_no_train_op,
                )
                for name, head in self._heads.items()
            }
            predictions = _by_pair({name: spec.predictions for name, spec in specs.items()})
            if mode == ModeKeys.PREDICT:
                return EstimatorSpec(mode, predictions=predictions, export_outputs=_merged_outputs(specs))
            loss = self._merged([spec.loss for spec in specs.values()], regularization_losses)
            train_op = make_train_op(
                loss,
                optimizer=optimizer,
                trainable_variables=trainable_variables,
                train_op_fn=train_op_fn,
                update_ops=update_ops,
            )
        summarize_losses(loss, regularization_losses, head_name=None)
        return EstimatorSpec(mode, predictions=predictions, loss=loss, train_op=train_op)

    def _evaluation(
        self, features: Any, logits: Any, labels: Any, regularization_losses: Sequence[Any] | None
    ) -> EstimatorSpec:
        predictions = self.predictions(logits)
        loss = self.loss(labels, logits, features, ModeKeys.EVAL, regularization_losses)
        metrics = self.metrics(regularization_losses)
        metrics = self.update_metrics(metrics, features, logits, labels, regularization_losses)
        return EstimatorSpec(ModeKeys.EVAL, predictions=predictions, loss=loss, eval_metric_ops=metrics)

    def _merged(self, losses: Sequence[Any], regularization_losses: Sequence[Any] | None) -> Any:
        with tf.name_scope("merge_losses"):
            if self._head_weights:
                losses = [loss * weight for loss, weight in zip(losses, self._head_weights, strict=True)]
            return regularized(tf.add_n(losses), regularization_losses)

    def _checked_labels(self, labels: Any) -> dict[str, Any]:
        check_labels_are_given(labels)
        if not isinstance(labels, dict):
            raise ValueError(f"labels must be a dict. Given: {labels}")  # noqa: TRY004 - the original raises it
        self._check_names("labels", labels)
        return labels

    def _by_head(self, logits: Any) -> dict[str, Any]:
        """Logits by the name of the head."""
        if isinstance(logits, dict):
            self._check_names("logits", logits)
            return logits
        with tf.name_scope("split_logits"):
            logits = tf.convert_to_tensor(logits)
            shape, dimensions = logits.shape.as_list(), [head.logits_dimension for head in self._heads.values()]
            if shape[-1] not in (None, sum(dimensions)):
                raise ValueError(
                    f"Could not split logits of shape {shape} among the heads with individual logits dimensions: "
                    f"{dimensions}. The last dimension of the logits tensor should equal {sum(dimensions)} but is "
                    f"{shape[-1]}."
                )
            split, first = {}, 0
            for name, dimension in zip(self._heads, dimensions, strict=True):
                others = len(shape) - 1
                split[name] = tf.slice(logits, [0] * others + [first], [-1] * others + [dimension])
                first += dimension
            return split

    def _check_names(self, what: str, by_head: dict[str, Any]) -> None:
        missing = [name for name in self._heads if name not in by_head]
        if missing:
            raise ValueError(f"{what} has missing values for head(s): {missing}")


def _no_train_op(loss: Any) -> Any:  # noqa: ARG001 - the signature of a train_op_fn
    return tf.no_op()


def _loss_key(head_name: str) -> str:
    return f"loss/{head_name}"


def _by_pair(by_head: dict[str, Any]) -> dict[Any, Any]:
    return {(name, key): value for name, values in by_head.items() for key, value in values.items()}


def _merged_outputs(specs: dict[str, EstimatorSpec]) -> dict[str, Any]:
    """What all heads export: `<head>` for its default, `<head>/<key>` for others, and the first head's as default."""
    merged: dict[str, Any] = {}
    predicted: dict[str, Any] = {}
    for name, spec in specs.items():
        for key, output in spec.export_outputs.items():
            merged[name if key == _DEFAULT else f"{name}/{key}"] = output
            if key == "predict" and isinstance(output, PredictOutput):
                predicted.update({f"{name}/{each}": tensor for each, tensor in output.outputs.items()})
    first = next(iter(specs))
    return {
        _DEFAULT: _default_output(first, specs[first].export_outputs),
        **merged,
        "predict": PredictOutput(predicted),
    }


def _default_output(head_name: str, outputs: dict[str, Any]) -> Any:
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    if _DEFAULT not in outputs:
        raise ValueError(
            f"{head_name} did not specify default export_outputs. Given: {outputs} Suggested fix: Use one of the heads "
            f"in tf.estimator, or include key {_DEFAULT} in export_outputs."
        )
    return outputs[_DEFAULT]
