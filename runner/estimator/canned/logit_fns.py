"""Functions from features to logits, for models that are put together from several of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.canned.linear_model import build_linear_model
from runner.estimator.canned.network import build_network
from runner.estimator.canned.partitioners import warn_of_partitioner
from runner.estimator.run_config import RunConfig
from runner.estimator.signatures import argument_names

__all__ = ["call_logit_fn", "dnn_logit_fn_builder", "linear_logit_fn_builder"]

_v1 = tf.compat.v1


def call_logit_fn(
    logit_fn: Callable[..., Any],
    features: Any,
    mode: str,
    params: Mapping[str, Any] | None,
    config: RunConfig | None,
) -> Any:
    """Calls a function that makes logits with those of the arguments that it takes.

    Args:
        logit_fn: Takes `features`, and any of `mode`, `params` and `config`.
        features: Tensors by name.
        mode: One of ModeKeys.
        params: Hyper-parameters.
        config: Of the estimator.

    Returns:
        The logits: a tensor, or a dict of tensors by name.

    Raises:
        ValueError: The function returned something else.
    """
    available = {"mode": mode, "params": params, "config": config}
    takes = argument_names(logit_fn)
    logits = logit_fn(features=features, **{name: value for name, value in available.items() if name in takes})
    if not (tf.is_tensor(logits) or _is_dict_of_tensors(logits)):
        raise ValueError(
            f"logit_fn should return a Tensor or a dictionary mapping strings to Tensors.  logit_fn returned: {logits}"
        )
    return logits


def dnn_logit_fn_builder(
    units: int,
    hidden_units: Iterable[int],
    feature_columns: Iterable[Any],
    activation_fn: Callable[[Any], Any] | str | None,
    dropout: float | None,
    input_layer_partitioner: Any,
    batch_norm: bool,
) -> Callable[[dict[str, Any], str], Any]:
    """Makes a function whose logits are those of a DNN*, with its variables in the current variable scope.

    Args:
        units: Size of the last dimension of the logits.
        hidden_units: See DNNClassifier.
        feature_columns: See DNNClassifier.
        activation_fn: See DNNClassifier.
        dropout: See DNNClassifier.
        input_layer_partitioner: Accepted, and not used, with a warning: every task holds whole variables.
        batch_norm: See DNNClassifier; the updates of its statistics are in the collection UPDATE_OPS.

    Returns:
        (features, mode) -> logits `[batch, units] float32`.

    Raises:
        ValueError: units is no int.
    """
    if not isinstance(units, int):
        raise ValueError(f"units must be an int.  Given type: {type(units)}")  # noqa: TRY004 - as the original
    warn_of_partitioner("input_layer_partitioner", input_layer_partitioner)
    sizes, columns = tuple(hidden_units), tuple(feature_columns)

    def dnn_logit_fn(features: dict[str, Any], mode: str) -> Any:
        logits = build_network(
            features,
            mode,
            units,
            feature_columns=columns,
            hidden_units=sizes,
            activation_fn=activation_fn,
            dropout=dropout,
            batch_norm=batch_norm,
        )
        for op in logits.update_ops:
            _v1.add_to_collection(_v1.GraphKeys.UPDATE_OPS, op)
        return logits.values

    return dnn_logit_fn


def linear_logit_fn_builder(
    units: int, feature_columns: Sequence[Any], sparse_combiner: str = "sum"
) -> Callable[[dict[str, Any]], Any]:
    """Makes a function whose logits are those of a Linear*, with its variables in the current variable scope.

    Args:
        units: Size of the last dimension of the logits.
        feature_columns: See LinearClassifier.
        sparse_combiner: See LinearClassifier.

    Returns:
        features -> logits `[batch, units] float32`.
    """
    columns = tuple(feature_columns)

    def linear_logit_fn(features: dict[str, Any]) -> Any:
        _, logits = build_linear_model(
            features, units, scope="linear_model", feature_columns=columns, sparse_combiner=sparse_combiner
        )
        return logits.values

    return linear_logit_fn


def _is_dict_of_tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and tf.is_tensor(each) for key, each in value.items())
