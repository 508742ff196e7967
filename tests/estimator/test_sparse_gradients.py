"""Sparse gradients over real processes."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.estimator import embeddings
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
