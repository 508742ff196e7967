"""numpy_input_fn: arrays as the input of an Estimator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from runner.estimator.inputs.rows import batches_of_rows, check_shuffle

__all__ = ["numpy_input_fn"]

_ARRAY = "__direct_np_input__"
"""What the original calls features that are one array, in its messages."""


def numpy_input_fn(
    x: Any,
    y: Any = None,
    batch_size: int = 128,
    num_epochs: int | None = 1,
    shuffle: bool | None = None,
    queue_capacity: int = 1000,
    num_threads: int = 1,
) -> Callable[[], tf.data.Dataset]:
    """An input_fn that reads arrays; a re-creation of tf.compat.v1.estimator.inputs.numpy_input_fn.

    The input_fn returns a dataset, where the original returns tensors that a queue fills. In a graph the dataset can be
    taken apart into tensors all the same: `features, labels = input_fn()`.

    Args:
        x: The features: an array `[rows, ...]`, or a dict of them by name.
        y: The labels: an array `[rows, ...]`, a dict of them by name, or None.
        batch_size: Number of rows in a batch; the last one may have fewer.
        num_epochs: How often each row is read; None means without end.
        shuffle: Whether rows come in random order; has to be given.
        queue_capacity: Number of rows to read ahead.
        num_threads: Each reads num_epochs epochs, so more than one reads more.

    Returns:
        A function without arguments. It raises ValueError for empty or mismatched arrays and for names in both x and
        y, and TypeError for an x of another type.

    Raises:
        ValueError: `shuffle` is not a bool.
    """
    check_shuffle(shuffle)

    def input_fn() -> tf.data.Dataset:
        features = _features(x)
        labels = None if y is None else _labels(y, features)
        _check_lengths(features, labels)
        arrays = features if isinstance(x, dict) else features[_ARRAY]
        return batches_of_rows(
            arrays if labels is None else (arrays, labels),
            batch_size=batch_size,
            num_epochs=num_epochs,
            shuffle=bool(shuffle),
            queue_capacity=queue_capacity,
            num_threads=num_threads,
        )

    return input_fn


def _features(x: Any) -> dict[str, Any]:
    if isinstance(x, dict):
        if not x:
            raise ValueError("x cannot be an empty dict")
        return {name: np.asarray(array) for name, array in x.items()}
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x must be a dict or array; got {type(x).__name__}")
    if x.size == 0:
        raise ValueError("x cannot be an empty array")
    return {_ARRAY: x}


def _labels(y: Any, features: dict[str, Any]) -> Any:
    if not isinstance(y, dict):
        return np.asarray(y)
    if not y:
        raise ValueError("y cannot be empty dict, use None instead.")
    duplicates = set(y) & set(features)
    if duplicates:
        raise ValueError(f"{len(duplicates)} duplicate keys are found in both x and y: {duplicates}")
    return {name: np.asarray(array) for name, array in y.items()}


def _check_lengths(features: dict[str, Any], labels: Any) -> None:
    arrays = [*features.values(), *([] if labels is None else tf.nest.flatten(labels))]
    if len({array.shape[:1] for array in arrays}) == 1:
        return
    of_features = {name: array.shape for name, array in features.items()}
    of_labels = None if labels is None else tf.nest.map_structure(np.shape, labels)
    raise ValueError(
        "Length of tensors in x and y is mismatched. All elements in x and y must have the same length.\n"
        f"Shapes in x: {of_features}\nShapes in y: {of_labels}\n"
    )
