"""Dense labels, checked against the logits and the classes."""

from typing import Any

import tensorflow as tf

from runner.estimator.heads.agreement import with_equal_shapes, within

__all__ = ["check_labels_are_given", "dense_labels", "labels_in_range"]

_v1 = tf.compat.v1


def check_labels_are_given(labels: Any) -> None:
    """Refuses to train or evaluate without labels.

    Raises:
        ValueError: There are none.
    """
    if labels is None:
        raise ValueError(
            "You must provide a labels Tensor. Given: None. Suggested troubleshooting steps: Check that your data "
            "contains your label feature. Check that your input_fn properly parses and returns labels."
        )


def dense_labels(labels: Any, logits: Any, dimension: int) -> Any:
    """Labels that fit the logits.

    Args:
        labels: `[D0, ..., DN, dimension]`, or `[D0, ..., DN]` for dimension 1.
        logits: `[D0, ..., DN, logits_dimension]`.
        dimension: Number of labels per example.

    Returns:
        Labels `[D0, ..., DN, dimension]`.

    Raises:
        TypeError: They are a dict.
        ValueError: There are none, they are sparse, or of another last dimension.
        InvalidArgumentError: Of another shape, in a graph; a ValueError in eager code.
    """
    check_labels_are_given(labels)
    if isinstance(labels, dict):
        raise TypeError(
            f"Failed to convert elements of {labels} to Tensor: labels should be of shape [D0, D1, ..., DN, "
            f"{dimension}]. A MultiHead takes a dict, keyed by the names of its heads."
        )
    with tf.name_scope("labels"):
        labels = _v1.convert_to_tensor_or_sparse_tensor(labels)
        if isinstance(labels, tf.SparseTensor):
            raise ValueError(  # noqa: TRY004 - the original raises it
                f"SparseTensor labels are not supported. Labels must be a Tensor of shape [D0, D1, ..., DN, "
                f"{dimension}], e.g. [batch_size, {dimension}].Suggested Fix (1): Check the label feature in your "
                f"data. Each example must contain {dimension} value(s). If not, your choice of label was probably "
                "incorrect. Suggested Fix (2): In your input_fn, use tf.sparse_tensor_to_dense() to turn labels into "
                "a Tensor."
            )
        if labels.shape.rank is not None and labels.shape.rank + 1 == logits.shape.rank:
            labels = tf.expand_dims(labels, -1)
        return _of_the_shape(labels, logits, dimension)


def _of_the_shape(labels: Any, logits: Any, dimension: int) -> Any:
    message = (
        f"labels shape must be [D0, D1, ... DN, {dimension}]. Suggested Fix: check your n_classes argument to the head "
        "and/or the shape of your label."
    )
    if tf.executing_eagerly() and labels.shape.rank < 2:  # noqa: PLR2004 - examples, and their labels
        rank = labels.shape.rank
        raise ValueError(f"labels must have rank at least 2.  Received rank {rank}, shape {tuple(labels.shape)}")
    with tf.control_dependencies([_v1.debugging.assert_rank_at_least(labels, 2, message=message)]):
        last = labels.shape[-1] if labels.shape.rank is not None else None
        if last is not None and last != dimension:
            raise ValueError(
                f"Mismatched label shape. Expected labels dimension={dimension}.  Received {last}. Suggested Fix: If "
                "your classifier expects one-hot encoding label, check your n_classes argument to the estimator "
                "and/or the shape of your label. Otherwise, check the shape of your label."
            )
        expected = tf.concat([_v1.shape(logits)[:-1], [dimension]], axis=0)
        given = _v1.shape(labels)
    return with_equal_shapes(labels, ("expected_labels_shape", expected), ("labels_shape", given), message=message)


def labels_in_range(labels: Any, n_classes: int, *, message: str | None = None) -> Any:
    """The labels, after a check that they are from 0 to n_classes - 1.

    Args:
        labels: Numbers of any shape.
        n_classes: Number of classes.
        message: Of the error; None for one that tells which bound they broke.

    Raises:
        InvalidArgumentError: They are not, when the graph runs; a ValueError in eager code.
    """
    with tf.name_scope("check_label_range"):
        too_large = message or f"Labels must be <= n_classes - 1: {n_classes - 1}"
        return within(labels, n_classes - 1, too_large=too_large, negative=message or "Labels must be >= 0")
