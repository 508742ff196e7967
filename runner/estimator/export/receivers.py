"""What stands in for an input_fn in a SavedModel: placeholders, and the features (and labels) made of them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import tensorflow as tf
from tensorflow.python.saved_model.model_utils.export_utils import (
    SINGLE_FEATURE_DEFAULT_NAME,
    SINGLE_LABEL_DEFAULT_NAME,
    SINGLE_RECEIVER_DEFAULT_NAME,
)

__all__ = [
    "ServingInputReceiver",
    "SupervisedInputReceiver",
    "TensorServingInputReceiver",
    "build_parsing_serving_input_receiver_fn",
    "build_raw_serving_input_receiver_fn",
    "build_raw_supervised_input_receiver_fn",
]

_v1 = tf.compat.v1

# What a single tensor is called, by the field it is given for.
_SINGLE_NAMES = {
    "feature": SINGLE_FEATURE_DEFAULT_NAME,
    "label": SINGLE_LABEL_DEFAULT_NAME,
    "receiver_tensor": SINGLE_RECEIVER_DEFAULT_NAME,
    "receiver_tensors_alternative": SINGLE_RECEIVER_DEFAULT_NAME,
}


class _ServingFields(NamedTuple):
    features: Any
    receiver_tensors: dict[str, Any]
    receiver_tensors_alternatives: dict[str, dict[str, Any]] | None


class ServingInputReceiver(_ServingFields):
    """The inputs of a served model whose model_fn takes a dict of features.

    Args:
        features: What the model_fn gets: tensors (dense, sparse or ragged) by name; a single tensor becomes the feature
            "feature".
        receiver_tensors: What a request feeds: placeholders by name; a single one becomes the input "input".
        receiver_tensors_alternatives: Further groups of tensors that may be fed instead, by the name of the group, such
            as features behind the parsing. Each adds the signatures `<group>:<signature>`.

    Raises:
        ValueError: A value is no tensor, or a key has another type.
    """

    __slots__ = ()

    def __new__(
        cls, features: Any, receiver_tensors: Any, receiver_tensors_alternatives: Mapping[str, Any] | None = None
    ) -> Self:
        """Checks the fields, and names single tensors."""
        return super().__new__(
            cls,
            features=_named_tensors("feature", features, key_types=(str, int)),
            receiver_tensors=_named_tensors("receiver_tensor", receiver_tensors),
            receiver_tensors_alternatives=_checked_alternatives(receiver_tensors_alternatives),
        )


class TensorServingInputReceiver(_ServingFields):
    """The inputs of a served model whose model_fn takes one tensor as its features.

    Args:
        features: What the model_fn gets: a single tensor, dense, sparse or ragged.
        receiver_tensors: See ServingInputReceiver.
        receiver_tensors_alternatives: See ServingInputReceiver.

    Raises:
        ValueError: A value is no tensor, or a key has another type.
    """

    __slots__ = ()

    def __new__(
        cls, features: Any, receiver_tensors: Any, receiver_tensors_alternatives: Mapping[str, Any] | None = None
    ) -> Self:
        """Checks the fields, and names single receiver tensors."""
        if features is None:
            raise ValueError("features must be defined.")
        _check_tensor("feature", None, features)
        return super().__new__(
            cls,
            features=features,
            receiver_tensors=_named_tensors("receiver_tensor", receiver_tensors),
            receiver_tensors_alternatives=_checked_alternatives(receiver_tensors_alternatives),
        )


class _SupervisedFields(NamedTuple):
    features: Any
    labels: Any
    receiver_tensors: dict[str, Any]


class SupervisedInputReceiver(_SupervisedFields):
    """The inputs of a model that is exported for training or evaluation.

    Args:
        features: What the model_fn gets as features: a tensor, or tensors by name.
        labels: What it gets as labels: likewise.
        receiver_tensors: See ServingInputReceiver.

    Raises:
        ValueError: A value is no tensor, or a key has another type.
    """

    __slots__ = ()

    def __new__(cls, features: Any, labels: Any, receiver_tensors: Any) -> Self:
        """Checks the fields; features and labels stay what they are."""
        _named_tensors("feature", features, key_types=(str, int))
        _named_tensors("label", labels, key_types=(str, int))
        return super().__new__(
            cls,
            features=features,
            labels=labels,
            receiver_tensors=_named_tensors("receiver_tensor", receiver_tensors),
        )


def build_parsing_serving_input_receiver_fn(
    feature_spec: Mapping[str, Any], default_batch_size: int | None = None
) -> Callable[[], ServingInputReceiver]:
    """A receiver of serialized tf.train.Example protos, `[batch] string`, under the input name "examples".

    Args:
        feature_spec: As for tf.io.parse_example, such as tf.feature_column.make_parse_example_spec makes it.
        default_batch_size: A fixed batch size; None serves batches of any size.

    Returns:
        A serving_input_receiver_fn.
    """

    def serving_input_receiver_fn() -> ServingInputReceiver:
        examples = _v1.placeholder(tf.string, shape=[default_batch_size], name="input_example_tensor")
        features = _v1.io.parse_example(examples, feature_spec)
        return ServingInputReceiver(features, {"examples": examples})

    return serving_input_receiver_fn


def build_raw_serving_input_receiver_fn(
    features: Mapping[str, Any], default_batch_size: int | None = None
) -> Callable[[], ServingInputReceiver]:
    """A receiver of the features themselves.

    Args:
        features: Tensors by name, whose dtypes and shapes behind the batch dimension are those to be fed.
        default_batch_size: A fixed batch size; None serves batches of any size.

    Returns:
        A serving_input_receiver_fn.
    """

    def serving_input_receiver_fn() -> ServingInputReceiver:
        placeholders = _placeholders(features, default_batch_size)
        return ServingInputReceiver(placeholders, placeholders)

    return serving_input_receiver_fn


def build_raw_supervised_input_receiver_fn(
    features: Any, labels: Any, default_batch_size: int | None = None
) -> Callable[[], SupervisedInputReceiver]:
    """A receiver of features and labels, for the export of a training or an evaluation.

    Args:
        features: A tensor, or tensors by name; a single one is fed as "input".
        labels: A tensor, or tensors by name; a single one is fed as "label".
        default_batch_size: A fixed batch size; None takes batches of any size.

    Returns:
        A function for `experimental_export_all_saved_models`.

    Raises:
        ValueError: A feature and a label would be fed under the same name.
    """
    overlap = set(_fed(features, SINGLE_RECEIVER_DEFAULT_NAME)) & set(_fed(labels, SINGLE_LABEL_DEFAULT_NAME))
    if overlap:
        raise ValueError(f"Features and labels must have distinct keys. Found overlapping keys: {overlap}")

    def supervised_input_receiver_fn() -> SupervisedInputReceiver:
        fed_features = _placeholders(features, default_batch_size)
        fed_labels = _placeholders(labels, default_batch_size)
        receiver_tensors = {
            **_fed(fed_features, SINGLE_RECEIVER_DEFAULT_NAME),
            **_fed(fed_labels, SINGLE_LABEL_DEFAULT_NAME),
        }
        return SupervisedInputReceiver(fed_features, fed_labels, receiver_tensors)

    return supervised_input_receiver_fn


def _fed(tensors: Any, single_name: str) -> Mapping[Any, Any]:
    return tensors if isinstance(tensors, Mapping) else {single_name: tensors}


def _placeholders(tensors: Any, batch_size: int | None) -> Any:
    if isinstance(tensors, Mapping):
        return {name: _placeholder(tensor, batch_size) for name, tensor in tensors.items()}
    return _placeholder(tensors, batch_size)


def _placeholder(tensor: Any, batch_size: int | None) -> Any:
    try:
        name = tensor.op.name  # which is then its name in the served graph too
    except AttributeError:  # an eager tensor has none
        name = None
    shape = tf.TensorShape([batch_size]).concatenate(tf.TensorShape(tensor.shape)[1:])
    return _v1.placeholder(tensor.dtype, shape=shape, name=name)


def _checked_alternatives(alternatives: Any) -> dict[str, dict[str, Any]] | None:
    if alternatives is None:
        return None
    if not isinstance(alternatives, dict):
        raise ValueError(f"receiver_tensors_alternatives must be a dict: {alternatives}.")  # noqa: TRY004 - as the original
    return {name: _named_tensors("receiver_tensors_alternative", tensors) for name, tensors in alternatives.items()}


def _named_tensors(field: str, tensors: Any, *, key_types: tuple[type, ...] = (str,)) -> dict[Any, Any]:
    if tensors is None:
        raise ValueError(f"{field}s must be defined.")
    named: dict[Any, Any] = tensors if isinstance(tensors, dict) else {_SINGLE_NAMES[field]: tensors}
    for key, tensor in named.items():
        if not isinstance(key, key_types):
            expected = "strings or ints" if int in key_types else "strings"
            raise ValueError(f"{field} keys must be {expected}: {key}.")  # noqa: TRY004 - as the original
        _check_tensor(field, key, tensor)
    return named


def _check_tensor(field: str, key: Any, value: Any) -> None:
    if not isinstance(value, (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)):
        name = f" {key}" if key else ""
        raise ValueError(f"{field}{name} must be a Tensor, SparseTensor, or RaggedTensor.")  # noqa: TRY004 - as the original
