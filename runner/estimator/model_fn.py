"""What a model_fn is told (the mode) and what it returns (an EstimatorSpec)."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Self

import tensorflow as tf
import tf_keras

# TensorFlow exports these under no public name since tf.estimator is gone.
from tensorflow.python.saved_model.model_utils import export_utils

__all__ = ["EstimatorSpec", "ModeKeys"]


class ModeKeys:
    """The three ways in which a model_fn is called."""

    TRAIN: Final = "train"
    EVAL: Final = "eval"
    PREDICT: Final = "infer"


class _Fields(NamedTuple):
    mode: str
    predictions: Any
    loss: Any
    train_op: Any
    eval_metric_ops: dict[str, tuple[Any, Any]]
    export_outputs: Any
    training_chief_hooks: tuple[Any, ...]
    training_hooks: tuple[Any, ...]
    scaffold: Any
    evaluation_hooks: tuple[Any, ...]
    prediction_hooks: tuple[Any, ...]


class EstimatorSpec(_Fields):
    """The operations of a model for one mode, checked when it is made, with the messages of tf.estimator.

    Training needs `loss` and `train_op`, evaluation `loss`, prediction `predictions`.

    Args:
        mode: One of ModeKeys.
        predictions: Tensor, or dict of tensors by name.
        loss: Tensor of one element, any shape; becomes a scalar.
        train_op: Operation or tensor that is run for each step.
        eval_metric_ops: By name, (value, update_op) as the functions of tf.compat.v1.metrics return them, or a
            tf_keras metric of which `update_state` was called.
        export_outputs: ExportOutput by signature name; by default one that exports `predictions`.
        training_chief_hooks: SessionRunHooks for training on the chief.
        training_hooks: SessionRunHooks for training on every worker.
        scaffold: tf.compat.v1.train.Scaffold with initializers and saver.
        evaluation_hooks: SessionRunHooks for evaluation.
        prediction_hooks: SessionRunHooks for prediction.

    Raises:
        ValueError: What the mode needs is missing, the loss is not one element, or a tensor is of another graph.
        TypeError: A value has the wrong type.
    """

    __slots__ = ()

    def __new__(
        cls,
        mode: str,
        predictions: Any = None,
        loss: Any = None,
        train_op: Any = None,
        eval_metric_ops: dict[str, Any] | None = None,
        export_outputs: Any = None,
        training_chief_hooks: Iterable[Any] | None = None,
        training_hooks: Iterable[Any] | None = None,
        scaffold: Any = None,
        evaluation_hooks: Iterable[Any] | None = None,
        prediction_hooks: Iterable[Any] | None = None,
    ) -> Self:
        """Checks and normalizes the fields."""
        predictions = _checked_predictions(predictions, mode)
        return super().__new__(
            cls,
            mode=mode,
            predictions=predictions,
            train_op=_checked_train_op(train_op, mode),
            loss=_checked_loss(loss, mode),
            eval_metric_ops=_checked_metrics(eval_metric_ops),
            export_outputs=_checked_export_outputs(export_outputs, predictions, mode),
            training_chief_hooks=_checked_hooks(training_chief_hooks),
            training_hooks=_checked_hooks(training_hooks),
            scaffold=_checked_scaffold(scaffold),
            evaluation_hooks=_checked_hooks(evaluation_hooks),
            prediction_hooks=_checked_hooks(prediction_hooks),
        )

    def _replace(self, **kwargs: Any) -> Self:
        """A checked copy with some fields changed.

        Raises:
            ValueError: The mode differs; other fields were checked for it.
        """
        if kwargs.get("mode", self.mode) != self.mode:
            raise ValueError("mode of EstimatorSpec cannot be changed.")
        return type(self)(**{**self._asdict(), **kwargs})


def _checked_train_op(train_op: Any, mode: str) -> Any:
    if train_op is None:
        if mode == ModeKeys.TRAIN:
            raise ValueError("Missing train_op.")
        return None
    if not _is_op_or_tensor(train_op):
        raise TypeError(f"train_op must be Operation or Tensor, given: {train_op}")
    # Running a variable would read it; what the user means is the operation behind it.
    train_op = train_op.op if isinstance(train_op, tf.Variable) else train_op
    _check_graph("train_op", train_op)
    return train_op


def _checked_loss(loss: Any, mode: str) -> Any:
    if loss is None:
        if mode in (ModeKeys.TRAIN, ModeKeys.EVAL):
            raise ValueError("Missing loss.")
        return None
    _check_tensor("loss", loss)
    _check_graph("loss", loss)
    if loss.shape.num_elements() not in (None, 1):
        raise ValueError(f"Loss must be scalar, given: {loss}")
    if loss.shape.rank in (None, 0):
        return loss
    return tf.reshape(loss, [])


def _checked_predictions(predictions: Any, mode: str) -> Any:
    if predictions is None:
        if mode == ModeKeys.PREDICT:
            raise ValueError("Missing predictions.")
        return {}
    if not isinstance(predictions, dict):
        _check_tensor("predictions", predictions)
        _check_graph("prediction values", predictions)
        return predictions
    for key, tensor in predictions.items():
        _check_tensor(f"predictions[{key}]", tensor)
        _check_graph("prediction values", tensor, key=key)
    return predictions


def _checked_metrics(eval_metric_ops: Any) -> dict[str, tuple[Any, Any]]:
    if eval_metric_ops is None:
        return {}
    if not isinstance(eval_metric_ops, dict):
        raise TypeError(f"eval_metric_ops must be a dict, given: {eval_metric_ops}")
    return {key: _checked_metric(key, metric) for key, metric in eval_metric_ops.items()}


def _checked_metric(key: str, metric: Any) -> tuple[Any, Any]:
    if isinstance(metric, tf_keras.metrics.Metric):
        return _ops_of_keras_metric(metric)
    parts = tf.nest.flatten(metric)
    if not isinstance(metric, tuple) or len(metric) != 2 or not all(_is_op_or_tensor(part) for part in parts):  # noqa: PLR2004
        raise TypeError(
            f"Values of eval_metric_ops must be (metric_value, update_op) tuples, given: {metric} for key: {key}"
        )
    for part in parts:
        _check_graph("eval_metric_ops", part, key=key)
    return metric


def _ops_of_keras_metric(metric: Any) -> tuple[Any, Any]:
    """The (value, update_op) of a metric object, whose variables become local: an evaluation starts them anew."""
    if not metric.updates:
        raise ValueError(f'Please call update_state(...) on the "{metric.name}" metric')
    for collection in (tf.compat.v1.GraphKeys.LOCAL_VARIABLES, tf.compat.v1.GraphKeys.METRIC_VARIABLES):
        present = tf.compat.v1.get_collection(collection)
        for variable in metric.variables:
            if not any(variable is each for each in present):
                tf.compat.v1.add_to_collection(collection, variable)
    return metric.result(), tf.group(*metric.updates)


def _checked_export_outputs(export_outputs: Any, predictions: Any, mode: str) -> Any:
    if mode != ModeKeys.PREDICT:
        return export_outputs
    return export_utils.get_export_outputs(export_outputs, predictions)


def _checked_hooks(hooks: Iterable[Any] | None) -> tuple[Any, ...]:
    checked = tuple(hooks or ())
    for hook in checked:
        if not isinstance(hook, tf.compat.v1.train.SessionRunHook):
            raise TypeError(f"All hooks must be SessionRunHook instances, given: {hook}")
    return checked


def _checked_scaffold(scaffold: Any) -> Any:
    if scaffold is None:
        return tf.compat.v1.train.Scaffold()
    if not isinstance(scaffold, tf.compat.v1.train.Scaffold):
        raise TypeError(f"scaffold must be tf.train.Scaffold. Given: {scaffold}")
    return scaffold


def _is_op_or_tensor(value: Any) -> bool:
    return isinstance(value, (tf.Tensor, tf.Variable, tf.Operation))


def _check_tensor(name: str, value: Any) -> None:
    if not isinstance(value, (tf.Tensor, tf.Variable)):
        raise TypeError(f"{name} must be Tensor, given: {value}")


def _check_graph(field: str, value: Any, *, key: str | None = None) -> None:
    # Eager tensors have no graph; the Estimator makes its specs in graphs, tools may make them without one.
    if tf.executing_eagerly() or value.graph is tf.compat.v1.get_default_graph():
        return
    name = value.name if key is None else f"{key}: {value.name}"
    raise ValueError(
        f'{field} with "{name}" must be from the default graph. Possible causes of this error include: \n\n'
        f"1) {field} was created outside the context of the default graph.\n\n"
        "2) The object passed through to EstimatorSpec was not created in the most recent call to "
        '"model_fn".'
    )
