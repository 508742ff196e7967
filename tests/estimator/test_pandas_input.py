"""pandas_input_fn: data frames, batch by batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator.v1.inputs import pandas_input_fn

INDEX = [10, 11, 12]
X = pd.DataFrame({"a": [1, 2, 3], "b": ["u", "v", "w"], "c": [1.0, 2.0, 3.0]}, index=INDEX)
Y = pd.Series([-1, -2, -3], index=INDEX)


def batches(dataset: tf.data.Dataset) -> list[Any]:
    return [tf.nest.map_structure(lambda array: array.tolist(), batch) for batch in dataset.as_numpy_iterator()]


def test_columns_are_features_and_a_series_is_the_label() -> None:
    read = batches(pandas_input_fn(X, Y, batch_size=2, num_epochs=2, shuffle=False)())

    assert read == [
        ({"a": [1, 2], "b": [b"u", b"v"], "c": [1.0, 2.0]}, [-1, -2]),
        ({"a": [3, 1], "b": [b"w", b"u"], "c": [3.0, 1.0]}, [-3, -1]),
        ({"a": [2, 3], "b": [b"v", b"w"], "c": [2.0, 3.0]}, [-2, -3]),
    ]


def test_without_labels_there_are_features_alone() -> None:
    assert batches(pandas_input_fn(X[["a"]], shuffle=False)()) == [{"a": [1, 2, 3]}]


def test_a_frame_of_labels_is_a_dict_and_may_share_names_with_the_features() -> None:
    labels = pd.DataFrame({"a": [-1, -2, -3], "t": [0.5, 1.5, 2.5]}, index=INDEX)

    read = batches(pandas_input_fn(X[["a"]], labels, shuffle=False, queue_capacity=None)())

    assert read == [({"a": [1, 2, 3]}, {"a": [-1, -2, -3], "t": [0.5, 1.5, 2.5]})]


def test_later_changes_of_the_frame_are_not_seen() -> None:
    frame = X.copy()
    input_fn = pandas_input_fn(frame[["a"]], shuffle=False)

    frame["a"] = 0

    assert batches(input_fn()) == [{"a": [1, 2, 3]}]


def test_an_estimator_reads_a_frame(tmp_path: Path) -> None:
    category = tf.feature_column.categorical_column_with_vocabulary_list("b", ["u", "v"])
    columns = [tf.feature_column.numeric_column("c"), tf.feature_column.indicator_column(category)]
    estimator = tfe.DNNClassifier([2], columns, str(tmp_path))
    labels = (Y < -1).astype(int)

    estimator.train(pandas_input_fn(X, labels, batch_size=2, num_epochs=None, shuffle=True), steps=2)

    metrics = estimator.evaluate(pandas_input_fn(X, labels, shuffle=False))
    assert metrics["label/mean"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "shuffle must be provided and explicitly set as boolean .*; got None"),
        ({"shuffle": True, "target_column": 3}, TypeError, "target_column must be a string type"),
        (
            {"shuffle": True, "target_column": "a"},
            ValueError,
            r"Cannot use name a for target column: DataFrame already has a column with that name: Index\(\['a', ",
        ),
        (
            {"shuffle": True, "y": Y.reset_index(drop=True)},
            ValueError,
            r"Index for x and y are mismatched.\nIndex for x: Index\(\[10, 11, 12\].*\nIndex for y: RangeIndex",
        ),
        ({"shuffle": True, "y": np.array([1, 2, 3])}, AttributeError, "no attribute 'index'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pandas_input_fn(X, **{"y": Y, **arguments})
