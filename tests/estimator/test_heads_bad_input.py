"""What does not fit a head is refused as by the original, with the values, in eager code and in graphs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.head_examples import F32

LOGITS = np.array([[1.0], [-1.0]], F32)
LOGITS_OF_3 = np.array([[1, 2, 3], [0, 1, 0]], F32)
BOTH_MODES = pytest.mark.parametrize("eager", [True, False], ids=["eager", "graph"])


def loss_of(head: tfe.Head, labels: Any, logits: Any, features: Any, *, eager: bool) -> None:
    if eager:
        head.loss(labels, logits, features)
        return
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        # Shapes that only the running graph knows, as those of a dataset.
        hidden = tf.nest.map_structure(_of_unknown_shape, (labels, logits, features))
        loss = head.loss(*hidden)
        session.run(tf.compat.v1.tables_initializer())
        session.run(loss)


def _of_unknown_shape(value: Any) -> Any:
    if value is None or isinstance(value, tf.compat.v1.SparseTensorValue):
        return value
    value = np.asarray(value)
    return tf.compat.v1.placeholder_with_default(tf.constant(value), [None] * value.ndim)


@BOTH_MODES
@pytest.mark.parametrize(
    ("head", "labels", "logits", "message"),
    [
        (tfe.BinaryClassHead(), None, LOGITS, "You must provide a labels Tensor. Given: None."),
        (tfe.MultiLabelHead(3), None, LOGITS_OF_3, "You must provide a labels Tensor. Given: None."),
        (
            tfe.MultiClassHead(3),
            [1.0, 0.0],
            LOGITS_OF_3,
            "Labels dtype should be integer. Instead got <dtype: 'float",
        ),
        (tfe.MultiClassHead(3), ["a", "b"], LOGITS_OF_3, "Instead got <dtype: 'string'>. Pass a label_vocabulary"),
        (tfe.BinaryClassHead(), ["a", "b"], LOGITS, "Instead got <dtype: 'string'>. Pass a label_vocabulary"),
        (
            tfe.MultiClassHead(3, label_vocabulary=["a", "b", "c"]),
            [0, 1],
            LOGITS_OF_3,
            "Labels dtype should be string if there is a vocabulary. Instead got <dtype: 'int",
        ),
    ],
)
def test_labels_of_the_wrong_type(head: tfe.Head, labels: Any, logits: Any, message: str, *, eager: bool) -> None:
    with pytest.raises(ValueError, match=message):
        loss_of(head, labels, logits, {}, eager=eager)


@BOTH_MODES
def test_labels_that_are_a_dict_are_for_a_multi_head(*, eager: bool) -> None:
    with pytest.raises(TypeError, match=r"Failed to convert elements of {'h1': .*keyed by the names of its heads"):
        loss_of(tfe.RegressionHead(), {"h1": [1.0]}, LOGITS, {}, eager=eager)


@BOTH_MODES
def test_ids_of_a_binary_vocabulary_are_not_looked_up(*, eager: bool) -> None:
    with pytest.raises(TypeError, match=r"must be <dtype: 'string'>, received: <dtype: 'int"):
        loss_of(tfe.BinaryClassHead(label_vocabulary=["a", "b"]), [0, 1], LOGITS, {}, eager=eager)


@BOTH_MODES
@pytest.mark.parametrize(
    ("head", "labels", "logits", "message", "values"),
    [
        (tfe.BinaryClassHead(), [1, 2], LOGITS, "Labels must be <= n_classes - 1: 1", "2"),
        (tfe.BinaryClassHead(), [1, -2], LOGITS, "Labels must be >= 0", "-2"),
        (tfe.BinaryClassHead(label_vocabulary=["a", "b"]), ["a", "c"], LOGITS, "Labels must be >= 0", "-1"),
        (tfe.MultiClassHead(3), [1, 3], LOGITS_OF_3, "Labels must be <= n_classes - 1: 2", "3"),
        (tfe.MultiClassHead(3), [1, -1], LOGITS_OF_3, "Labels must be >= 0", "-1"),
        (
            tfe.MultiLabelHead(3),
            [[1, 0, 2], [0, 0, 0]],
            LOGITS_OF_3,
            r"labels must be an integer indicator Tensor with values in \[0, 1\]",
            "2",
        ),
        (tfe.LogisticRegressionHead(), [1, 2], LOGITS, r"Labels must be in range \[0, 1\]", "2"),
    ],
)
def test_labels_out_of_range(
    head: tfe.Head, labels: Any, logits: Any, message: str, values: str, *, eager: bool
) -> None:
    error = ValueError if eager else tf.errors.InvalidArgumentError

    with pytest.raises(error, match=f"(?s){message}.*{values}"):
        loss_of(head, labels, logits, {}, eager=eager)


@pytest.mark.parametrize(
    ("values", "vocabulary", "error", "message"),
    [
        ([1, 3], None, ValueError, r"integer SparseTensor with values in \[0, 3\). Given: \[1, 3\]"),
        (["a", "z"], ["a", "b", "c"], ValueError, r"values in \[0, 3\). Given: \[0, -1\]"),
        ([1.0, 2.0], None, ValueError, "Labels dtype should be integer. Instead got <dtype: 'float32'>."),
        (["a", "b"], None, TypeError, "there is no label_vocabulary"),
    ],
)
def test_sparse_labels_that_are_no_classes(values: Any, vocabulary: Any, error: Any, message: str) -> None:
    labels = tf.SparseTensor([[0, 0], [1, 0]], values, [2, 1])

    with pytest.raises(error, match=message):
        tfe.MultiLabelHead(3, label_vocabulary=vocabulary).loss(labels, LOGITS_OF_3)


@pytest.mark.parametrize("labels", [np.array([["a"] * 3] * 2), np.array([[True] * 3] * 2)], ids=["string", "bool"])
def test_dense_labels_of_a_multi_label_head_are_numbers(labels: Any) -> None:
    with pytest.raises(TypeError, match=r"labels must be an integer indicator Tensor .* Given dtype: <dtype: '"):
        tfe.MultiLabelHead(3).loss(labels, LOGITS_OF_3)


@BOTH_MODES
@pytest.mark.parametrize("head", [tfe.BinaryClassHead(), tfe.RegressionHead()], ids=["classes", "values"])
def test_as_many_labels_as_examples(head: tfe.Head, *, eager: bool) -> None:
    error = ValueError if eager else tf.errors.InvalidArgumentError

    with pytest.raises(error, match=r"labels shape must be \[D0, D1, ... DN, 1\]. (?s:.*)2(?s:.*)3"):
        loss_of(head, [1.0, 0.0, 1.0], LOGITS, {}, eager=eager)


@pytest.mark.parametrize(
    ("head", "labels"),
    [
        (tfe.MultiClassHead(3), [[1, 0], [0, 1]]),
        (tfe.MultiLabelHead(3), [[1, 0], [0, 1]]),
        (tfe.RegressionHead(3), [[1, 0], [0, 1]]),
    ],
)
def test_labels_of_another_dimension(head: tfe.Head, labels: Any) -> None:
    with pytest.raises(ValueError, match=r"Mismatched label shape. Expected labels dimension=[13].  Received 2."):
        head.loss(labels, LOGITS_OF_3)


def test_sparse_labels_are_for_a_multi_label_head() -> None:
    with pytest.raises(ValueError, match=r"SparseTensor labels are not supported. .* \[D0, D1, ..., DN, 1\]"):
        tfe.BinaryClassHead().loss(tf.SparseTensor([[0, 0]], [1], [2, 1]), LOGITS)


@BOTH_MODES
def test_logits_of_another_dimension(*, eager: bool) -> None:
    error = ValueError if eager else tf.errors.InvalidArgumentError

    with pytest.raises(error, match=r"logits shape must be \[D0, D1, ... DN, logits_dimension\](?s:.*)3"):
        loss_of(tfe.BinaryClassHead(), [1, 0], LOGITS_OF_3, {}, eager=eager)


@BOTH_MODES
def test_logits_have_a_dimension_of_their_own(*, eager: bool) -> None:
    with pytest.raises(ValueError, match=r"logits must have rank at least 2.  Received rank 1, shape \("):
        loss_of(tfe.BinaryClassHead(), [1, 0], np.array([1.0, 2.0], F32), {}, eager=eager)


@BOTH_MODES
@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        ({"x": [1.0, 2.0]}, ValueError, "Feature w is not in features dictionary."),
        ({"w": ["a", "b"]}, tf.errors.UnimplementedError, "Cast string to float is not supported"),
    ],
    ids=["missing", "strings"],
)
def test_weights_that_are_not_there_or_no_numbers(features: Any, error: Any, message: str, *, eager: bool) -> None:
    features = {name: np.array(values) for name, values in features.items()}

    with pytest.raises(error, match=message):
        loss_of(tfe.BinaryClassHead(weight_column="w"), [1, 0], LOGITS, features, eager=eager)


@BOTH_MODES
@pytest.mark.parametrize(
    ("head", "message"),
    [
        (tfe.BinaryClassHead, r"weights shape must be \[D0, D1, ... DN\] or \[D0, D1, ... DN, 1\]"),
        (tfe.RegressionHead, r"weights shape must be \[D0, D1, ... DN\], .* or \[D0, D1, ... DN, logits_dimension\]"),
    ],
)
def test_weights_of_another_shape(head: Callable[..., tfe.Head], message: str, *, eager: bool) -> None:
    column = tf.feature_column.numeric_column("w", shape=(2,))
    error = ValueError if eager else tf.errors.InvalidArgumentError

    with pytest.raises(error, match=message):
        loss_of(head(weight_column=column), [1, 0], LOGITS, {"w": np.ones((2, 2), F32)}, eager=eager)


def test_a_weight_column_is_a_name_or_numeric() -> None:
    with pytest.raises(TypeError, match=r"either a string or NumericColumn. Given type: <class 'int'>."):
        tfe.BinaryClassHead(weight_column=3).loss([1, 0], LOGITS, {})


@BOTH_MODES
def test_a_loss_fn_keeps_the_shape(*, eager: bool) -> None:
    head = tfe.BinaryClassHead(loss_fn=lambda labels, logits: tf.concat([logits, logits], axis=-1))
    error = ValueError if eager else tf.errors.InvalidArgumentError

    with pytest.raises(error, match=r"loss_fn must return Tensor of shape \[D0, D1, ... DN, 1\]."):
        loss_of(head, [1, 0], LOGITS, {}, eager=eager)


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"given: nope.Valid prediction keys include \['logits', 'probabilities', "):
        tfe.MultiClassHead(3).predictions(LOGITS_OF_3, ["nope"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfe.BinaryClassHead(label_vocabulary="ab"), "should be a list or a tuple. Given type: <class 'str'>"),
        (lambda: tfe.BinaryClassHead(label_vocabulary=["a"]), r"len\(label_vocabulary\)=1, n_classes=2"),
        (lambda: tfe.BinaryClassHead(thresholds=[0.5, 1.0]), r"thresholds not in \(0, 1\): \(\(0.5, 1.0\),\)."),
        (lambda: tfe.BinaryClassHead(loss_reduction="mean"), "Invalid loss_reduction: mean. See `tf.losses.Reduction`"),
        (lambda: tfe.BinaryClassHead(loss_reduction="none"), "Invalid loss_reduction: none."),
        (lambda: tfe.BinaryClassHead(loss_reduction="weighted_mean"), "Invalid loss_reduction: weighted_mean."),
        (lambda: tfe.BinaryClassHead(loss_fn=lambda a, b: a), r"argument: labels. Given arguments: \('a', 'b'\)"),
        (lambda: tfe.BinaryClassHead(loss_fn=lambda labels, logits, z: z), r"loss_fn has unexpected args: \['z'\]"),
        (lambda: tfe.MultiClassHead(2), "n_classes must be > 2: 2."),
        (lambda: tfe.MultiClassHead(None), "n_classes cannot be None"),  # type: ignore[arg-type]
        (lambda: tfe.MultiLabelHead(1), "n_classes must be > 1 for multi-label classification. Given: 1"),
        (lambda: tfe.MultiLabelHead(2, thresholds=[0.0]), r"thresholds must be in \(0, 1\) range. Given: 0.0"),
        (lambda: tfe.MultiLabelHead(2, label_vocabulary="ab"), "must be a list or tuple. Given type: <class 'str'>"),
        (lambda: tfe.MultiLabelHead(2, label_vocabulary=["a"]), r"must be n_classes \(2\). Given: 1"),
        (lambda: tfe.MultiLabelHead(2, classes_for_class_based_metrics=[2]), r"in range \[0, 1\]. Given: 2"),
        (lambda: tfe.MultiLabelHead(2, classes_for_class_based_metrics=["a"]), "label_vocabulary must be provided"),
        (lambda: tfe.RegressionHead(0), "Invalid label_dimension 0."),
    ],
)
def test_impossible_heads_are_refused(make: Callable[[], tfe.Head], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
