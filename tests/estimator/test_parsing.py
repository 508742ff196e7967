"""The specs that parse serialized examples."""

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe

_columns = tf.feature_column


def columns() -> list[Any]:
    category = _columns.categorical_column_with_vocabulary_list("c", ["x"])
    return [
        _columns.numeric_column("a", shape=(2,)),
        _columns.bucketized_column(_columns.numeric_column("b"), [1.0]),
        _columns.embedding_column(category, 2),
    ]


def features() -> dict[str, Any]:
    return {
        "a": tf.io.FixedLenFeature((2,), tf.float32),
        "b": tf.io.FixedLenFeature((1,), tf.float32),
        "c": tf.io.VarLenFeature(tf.string),
    }


def test_the_spec_of_a_classifier_is_that_of_its_columns_and_a_class_id() -> None:
    spec = tfe.classifier_parse_example_spec(columns(), "label")

    assert spec == {**features(), "label": tf.io.FixedLenFeature((1,), tf.int64)}


def test_the_spec_of_a_regressor_is_that_of_its_columns_and_the_values() -> None:
    spec = tfe.regressor_parse_example_spec(columns(), "label", label_dimension=3, weight_column="weight")

    assert spec == {
        **features(),
        "label": tf.io.FixedLenFeature((3,), tf.float32),
        "weight": tf.io.FixedLenFeature((1,), tf.float32),
    }


def test_label_and_weight_may_have_types_and_defaults_of_their_own() -> None:
    weight = _columns.numeric_column("weight", shape=(2,), default_value=1.0)

    spec = tfe.classifier_parse_example_spec(columns(), "label", tf.string, "no", weight)

    assert spec["label"] == tf.io.FixedLenFeature((1,), tf.string, "no")
    assert spec["weight"] == tf.io.FixedLenFeature((2,), tf.float32, (1.0, 1.0))


def test_examples_are_parsed_by_the_spec() -> None:
    example = tf.train.Example()
    example.features.feature["a"].float_list.value.extend([1.0, 2.0])
    example.features.feature["b"].float_list.value.append(3.0)
    spec = tfe.classifier_parse_example_spec(columns(), "label", label_default=7)

    parsed = tf.io.parse_example([example.SerializeToString()], spec)

    assert parsed["a"].numpy().tolist() == [[1.0, 2.0]]
    assert parsed["label"].numpy().tolist() == [[7]]


@pytest.mark.parametrize("make", [tfe.classifier_parse_example_spec, tfe.regressor_parse_example_spec])
@pytest.mark.parametrize(
    ("label_key", "weight_column", "message"),
    [
        ("a", None, r"label should not be used as feature. label_key: a, features: dict_keys\(\['a', 'b', 'c'\]\)"),
        ("y", "a", "weight_column should not be used as feature. weight_column: a, features: dict_keys"),
        ("y", "y", "weight_column should not be used as feature. weight_column: y"),
        ("y", 3, "an instance of tf.feature_column.numeric_column. Given type: <class 'int'> value: 3"),
    ],
)
def test_label_and_weight_are_no_features(
    make: Callable[..., Any], label_key: str, weight_column: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(columns(), label_key, weight_column=weight_column)
