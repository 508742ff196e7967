"""A training whose disk is full goes on, and loses no checkpoint that it had."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner.errors import StoreFullError
from tests.estimator.test_saving import estimator_of, input_fn, weights


class Ballast(tf.compat.v1.train.CheckpointSaverListener):
    """Takes all room that is left once a step is saved."""

    def __init__(self, path: Path, *, after_step: int) -> None:
        self._path = path
        self._after_step = after_step

    def after_save(self, session: Any, global_step_value: int) -> None:
        if global_step_value == self._after_step:
            with self._path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass


def test_a_full_disk_costs_the_saves_that_found_it_full_and_no_checkpoint(
    small_disk: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("tensorflow"), "propagate", True)
    ballast = small_disk / "ballast"
    model_dir = small_disk / "model"
    estimator = estimator_of(model_dir, checkpoint_save_graph_def=False)

    with pytest.raises(StoreFullError, match=r"No space left on device\. Free some"):
        estimator.train(input_fn, steps=35, saving_listeners=[Ballast(ballast, after_step=10)])

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([line for line in warnings if "could not be saved" in line]) >= 2
    assert tf.train.latest_checkpoint(str(model_dir)) == f"{model_dir}/model.ckpt-10"
    assert weights(model_dir) == {1: {1.0}, 10: {10.0}}

    ballast.unlink()
    estimator.train(input_fn, steps=10)

    assert weights(model_dir)[20] == {20.0}
