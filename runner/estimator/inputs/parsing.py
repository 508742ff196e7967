"""How to parse serialized tf.train.Examples into features, label and weight."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

# TensorFlow exports the class of numeric columns under no name.
from tensorflow.python.feature_column.feature_column_v2 import NumericColumn

__all__ = ["classifier_parse_example_spec", "regressor_parse_example_spec"]


def classifier_parse_example_spec(
    feature_columns: Iterable[Any],
    label_key: str,
    label_dtype: Any = tf.int64,
    label_default: Any = None,
    weight_column: Any = None,
) -> dict[str, Any]:
    """What tf.io.parse_example needs to read the input of a classifier.

    Args:
        feature_columns: Columns of tf.feature_column.
        label_key: Name of the label in the examples.
        label_dtype: tf.int64 for class ids, tf.string with a label_vocabulary, tf.float32 for two classes only.
        label_default: Label of an example without one; None makes that an error.
        weight_column: Name or numeric column of the weight in the examples.

    Returns:
        FixedLenFeature, VarLenFeature and the like by name: of the columns, of the label `[1]`, and of the weight.

    Raises:
        ValueError: The label or the weight is among the features, or the weight column is not numeric.
    """
    label = tf.io.FixedLenFeature((1,), label_dtype, label_default)
    return _spec(feature_columns, label_key, label, weight_column)


def regressor_parse_example_spec(
    feature_columns: Iterable[Any],
    label_key: str,
    label_dtype: Any = tf.float32,
    label_default: Any = None,
    label_dimension: int = 1,
    weight_column: Any = None,
) -> dict[str, Any]:
    """What tf.io.parse_example needs to read the input of a regressor.

    Args:
        feature_columns: Columns of tf.feature_column.
        label_key: Name of the label in the examples.
        label_dtype: Of the label.
        label_default: Label of an example without one; None makes that an error.
        label_dimension: Number of values of the label.
        weight_column: Name or numeric column of the weight in the examples.

    Returns:
        FixedLenFeature, VarLenFeature and the like by name: of the columns, of the label `[label_dimension]`, and of
        the weight.

    Raises:
        ValueError: The label or the weight is among the features, or the weight column is not numeric.
    """
    label = tf.io.FixedLenFeature((label_dimension,), label_dtype, label_default)
    return _spec(feature_columns, label_key, label, weight_column)


def _spec(feature_columns: Iterable[Any], label_key: str, label: Any, weight_column: Any) -> dict[str, Any]:
    spec: dict[str, Any] = tf.feature_column.make_parse_example_spec(feature_columns)
    if label_key in spec:
        raise ValueError(f"label should not be used as feature. label_key: {label_key}, features: {spec.keys()}")
    spec[label_key] = label
    if weight_column is None:
        return spec
    if isinstance(weight_column, str):
        weight_column = tf.feature_column.numeric_column(weight_column)
    if not isinstance(weight_column, NumericColumn):
        raise ValueError(  # noqa: TRY004 - the original raises it
            "weight_column should be an instance of tf.feature_column.numeric_column. "
            f"Given type: {type(weight_column)} value: {weight_column}"
        )
    if weight_column.key in spec:
        raise ValueError(
            f"weight_column should not be used as feature. weight_column: {weight_column.key}, features: {spec.keys()}"
        )
    return {**spec, **weight_column.parse_example_spec}
