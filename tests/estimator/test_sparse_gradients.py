"""Sparse gradients: the way they take, and what two real processes make of them."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from runner.estimator.replicas.sparse_gradients import Table, average_slices
from tests.estimator import embeddings
from tests.estimator.alone import Alone
from tests.estimator.tasks import outputs, start


@pytest.fixture(scope="module")
def pair_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model directories of a chief and a worker, one for each optimizer."""
    path = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        tasks = start(stack, "sparse", path / "model", workers=1, logs=path)
        assert [task.wait() for task in tasks.values()] == [0, 0], outputs(tasks)
    return path / "model"


@pytest.mark.parametrize("optimizer", embeddings.OPTIMIZERS)
def test_two_replicas_train_embeddings_as_one_with_the_whole_batch(
    pair_dir: Path, tmp_path: Path, optimizer: str
) -> None:
    # Ended before the input is: by the end of the input alone, Adam's averages would decay once more without a step.
    embeddings.train(
        str(tmp_path), optimizer=optimizer, batch_size=2 * embeddings.BATCH_SIZE, max_steps=embeddings.N_STEPS
    )

    one, two = tf.train.load_checkpoint(str(tmp_path)), tf.train.load_checkpoint(str(pair_dir / optimizer))
    names = one.get_variable_to_shape_map()
    assert two.get_variable_to_shape_map() == names
    for name in names:
        np.testing.assert_allclose(two.get_tensor(name), one.get_tensor(name), rtol=1e-5, atol=1e-6, err_msg=name)
    assert np.any(two.get_tensor("table_large") != 1.0)


@pytest.mark.parametrize(
    ("indices", "dtype", "call"),
    [
        ([1, 3, 3], tf.float32, "all_gather"),
        ([1, 3, 3], tf.bfloat16, "all_gather"),
        (list(range(8)), tf.float16, "all_gather"),
        ([*range(7), 1, 1], tf.float32, "all_reduce_mean"),
    ],
)
def test_rows_travel_unless_the_table_is_smaller(indices: list[int], dtype: tf.DType, call: str) -> None:
    table = Table(n_rows=8, row_shape=(2,), dtype=dtype, index_dtype=tf.int64)
    values = tf.cast(tf.reshape(tf.range(2 * len(indices)), [-1, 2]), dtype)
    alone = Alone()

    ((found, means),) = average_slices(
        alone,  # type: ignore[arg-type]
        [table],
        [(tf.constant(indices, tf.int64), values)],
        [[len(indices)]],
    )

    assert alone.calls == [call]
    whole, occurrences = table.whole(tf.constant(found), tf.constant(means))
    np.testing.assert_array_equal(whole, tf.math.unsorted_segment_sum(values, tf.constant(indices), 8))
    assert set(np.flatnonzero(occurrences)) == set(indices)
    assert means.dtype == dtype.as_numpy_dtype
