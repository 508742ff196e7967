"""pandas_input_fn: a data frame as the input of an Estimator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from runner.estimator.inputs.rows import batches_of_rows, check_shuffle

__all__ = ["pandas_input_fn"]


def pandas_input_fn(
    x: Any,
    y: Any = None,
    batch_size: int = 128,
    num_epochs: int | None = 1,
    shuffle: bool | None = None,
    queue_capacity: int | None = 1000,
    num_threads: int = 1,
    target_column: str = "target",
) -> Callable[[], tf.data.Dataset]:
    """An input_fn that reads a pandas DataFrame; a re-creation of tf.compat.v1.estimator.inputs.pandas_input_fn.

    The input_fn returns a dataset, where the original returns tensors that a queue fills. In a graph the dataset can be
    taken apart into tensors all the same: `features, labels = input_fn()`.

    Args:
        x: The features: a DataFrame, which is copied.
        y: The labels: a Series or DataFrame with the index of x, or None.
        batch_size: Number of rows in a batch; the last one may have fewer.
        num_epochs: How often each row is read; None means without end.
        shuffle: Whether rows come in random order; has to be given.
        queue_capacity: Number of rows to read ahead; None means all of x.
        num_threads: Each reads num_epochs epochs, so more than one reads more.
        target_column: A name that no column of x has. Here it serves no other purpose.

    Returns:
        A function without arguments.

    Raises:
        TypeError: `target_column` is not a string.
        ValueError: `shuffle` is not a bool, x has a column of that name, or the indexes differ.
    """
    check_shuffle(shuffle)
    if not isinstance(target_column, str):
        raise TypeError("target_column must be a string type")
    if y is not None:
        _check_labels(x, y, target_column)
    features = _arrays(x)
    # What has columns is a DataFrame; pandas itself is not needed for more than this.
    labels = y if y is None else _arrays(y) if hasattr(y, "columns") else np.array(y)

    def input_fn() -> tf.data.Dataset:
        return batches_of_rows(
            features if labels is None else (features, labels),
            batch_size=batch_size,
            num_epochs=num_epochs,
            shuffle=bool(shuffle),
            queue_capacity=len(x) if queue_capacity is None else queue_capacity,
            num_threads=num_threads,
        )

    return input_fn


def _check_labels(x: Any, y: Any, target_column: str) -> None:
    if target_column in x:
        raise ValueError(
            f"Cannot use name {target_column} for target column: DataFrame already has a column with that name: "
            f"{x.columns}"
        )
    if not np.array_equal(x.index, y.index):
        raise ValueError(f"Index for x and y are mismatched.\nIndex for x: {x.index}\nIndex for y: {y.index}\n")


def _arrays(frame: Any) -> dict[str, Any]:
    """A copy of each column, by its name."""
    return {name: np.array(frame[name]) for name in frame.columns}
