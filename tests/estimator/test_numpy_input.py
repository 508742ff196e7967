"""numpy_input_fn: arrays, batch by batch, as the queues of the original gave them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator.v1.inputs import numpy_input_fn

A = np.arange(5)
B = np.arange(10.0).reshape(5, 2)
Y = np.arange(5) * 10


def batches(dataset: tf.data.Dataset) -> list[Any]:
    return [tf.nest.map_structure(lambda array: array.tolist(), batch) for batch in dataset.as_numpy_iterator()]


def test_a_batch_may_hold_rows_of_two_epochs() -> None:
    dataset = numpy_input_fn({"a": A, "b": B}, Y, batch_size=2, num_epochs=2, shuffle=False)()

    read = batches(dataset)

    assert [labels for _, labels in read] == [[0, 10], [20, 30], [40, 0], [10, 20], [30, 40]]
    assert read[2][0] == {"a": [4, 0], "b": [[8.0, 9.0], [0.0, 1.0]]}


def test_the_last_batch_has_the_rows_that_are_left() -> None:
    assert batches(numpy_input_fn(A, batch_size=3, shuffle=False)()) == [[0, 1, 2], [3, 4]]


def test_without_a_number_of_epochs_there_is_no_end() -> None:
    dataset = numpy_input_fn({"a": A}, Y, batch_size=7, num_epochs=None, shuffle=False)()

    read = batches(dataset.take(2))

    assert [labels for _, labels in read] == [[0, 10, 20, 30, 40, 0, 10], [20, 30, 40, 0, 10, 20, 30]]
    assert dataset.element_spec[0]["a"].shape == (7,)


def test_an_array_of_features_and_a_dict_of_labels_keep_their_structure() -> None:
    read = batches(numpy_input_fn(A, {"y": Y, "z": B}, batch_size=5, shuffle=False)())

    assert read == [(A.tolist(), {"y": Y.tolist(), "z": B.tolist()})]


@pytest.mark.parametrize("dtype", ["U", "S", "O"])
def test_strings_become_strings(dtype: str) -> None:
    read = batches(numpy_input_fn({"a": np.array(["yes", "n"], dtype)}, shuffle=False)())

    assert read == [{"a": [b"yes", b"n"]}]


def test_types_and_shapes_are_known_to_the_graph() -> None:
    spec = numpy_input_fn({"a": A.astype(np.int32), "b": B}, shuffle=False)().element_spec

    assert spec == {"a": tf.TensorSpec([None], tf.int32), "b": tf.TensorSpec([None, 2], tf.float64)}


def test_shuffling_gives_each_epoch_an_order_of_its_own() -> None:
    dataset = numpy_input_fn({"a": np.arange(50)}, batch_size=50, num_epochs=2, shuffle=True)()

    first, second = (batch["a"] for batch in batches(dataset))

    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second != list(range(50))


def test_more_threads_read_more_epochs_and_say_so(info_log: pytest.LogCaptureFixture) -> None:
    dataset = numpy_input_fn({"a": A}, batch_size=5, num_epochs=1, shuffle=False, num_threads=2)()

    assert batches(dataset) == [{"a": A.tolist()}] * 2
    assert "Every one of the 2 threads reads 1 epochs, 2 in all." in info_log.text


def test_an_estimator_reads_arrays_that_its_graph_does_not_hold(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(100_000, 4)).astype(np.float32)
    estimator = tfe.DNNClassifier([2], [tf.feature_column.numeric_column("x", shape=(4,))], str(tmp_path))

    estimator.train(numpy_input_fn({"x": rows}, (rows[:, 0] > 0).astype(int), num_epochs=None, shuffle=True), steps=3)
    metrics = estimator.evaluate(numpy_input_fn({"x": rows[:10]}, np.ones(10, int), shuffle=False))

    assert metrics["label/mean"] == 1.0
    assert (tmp_path / "graph.pbtxt").stat().st_size < rows.nbytes / 2


@pytest.mark.parametrize("shuffle", [None, 1])
def test_the_order_has_to_be_decided_on(shuffle: Any) -> None:
    with pytest.raises(ValueError, match=f"shuffle must be provided and explicitly set as boolean .*; got {shuffle}"):
        numpy_input_fn({"a": A}, Y, shuffle=shuffle)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        ({}, Y, ValueError, "x cannot be an empty dict"),
        (np.array([]), Y, ValueError, "x cannot be an empty array"),
        ([1, 2], Y, TypeError, "x must be a dict or array; got list"),
        ({"a": A}, {}, ValueError, "y cannot be empty dict, use None instead."),
        ({"a": A}, {"a": A}, ValueError, "1 duplicate keys are found in both x and y: {'a'}"),
        ({"a": A, "b": B[:3]}, None, ValueError, r"Shapes in x: {'a': \(5,\), 'b': \(3, 2\)}\nShapes in y: None"),
        ({"a": A}, Y[:2], ValueError, r"Shapes in x: {'a': \(5,\)}\nShapes in y: \(2,\)"),
        ({"a": A}, {"y": Y[:2]}, ValueError, r"Shapes in y: {'y': \(2,\)}"),
        (A, Y[:2], ValueError, r"Length of tensors in x and y is mismatched. (?s:.*)'__direct_np_input__': \(5,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(x: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        numpy_input_fn(x, y, shuffle=True)()


def test_an_input_fn_of_the_users_may_take_features_and_labels_apart(tmp_path: Path) -> None:
    def input_fn() -> Any:
        features, labels = numpy_input_fn({"a": A}, Y, batch_size=2, shuffle=False)()
        return {"a": tf.cast(features["a"], tf.float32) * 2}, labels

    estimator = tfe.BaselineRegressor(str(tmp_path))
    estimator.train(input_fn)
    metrics = estimator.evaluate(input_fn)
    predictions = list(estimator.predict(input_fn))

    assert metrics["global_step"] == 3
    assert metrics["label/mean"] == 20.0
    assert len(predictions) == 5


def test_features_without_labels_are_not_taken_apart_in_a_graph() -> None:
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="only supports Python-style iteration in eager"):
        iter(numpy_input_fn({"a": A, "b": B}, shuffle=False)())
