"""A training on a real S3 server that goes away in the middle of a save."""

import time
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.checkpoint.bundle.reader import BundleReader
from runner.checkpoint.listing import list_checkpoints
from runner.checkpoint.writer import SaveListener
from runner.storage.s3_calls import S3Calls
from runner.storage.urls import open_directory
from tests.seaweed import SeaweedFS, running_seaweed, use

_v1 = tf.compat.v1

OUTAGE_SECS = 20.0


def input_fn() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors({"x": [1.0]}).repeat()


def model_fn(features: dict[str, tf.Tensor], mode: str) -> tfe.EstimatorSpec:
    """A quick step, and 64 MiB that take a while to upload."""
    weight = _v1.get_variable("weight", [], initializer=_v1.ones_initializer())
    _v1.get_variable("ballast", [16, 2**20], initializer=_v1.ones_initializer(), trainable=False)
    loss = tf.square(weight * features["x"][0])
    train_op = _v1.train.GradientDescentOptimizer(0.01).minimize(loss, _v1.train.get_global_step())
    return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op)


class Outage(tf.compat.v1.train.SessionRunHook, SaveListener):
    """Kills the server as soon as the first save has begun to upload, and starts it again after some time.

    Attributes:
        steps: Steps that were done while the server was away.
        longest_secs: The longest time between two of them.
        saved: Steps whose checkpoint was published, in order.
        saved_meanwhile: Whether one was published while the server was away.
    """

    def __init__(self, seaweed: SeaweedFS, model_dir: str) -> None:
        bucket, _, self._prefix = model_dir.removeprefix("s3://").partition("/")
        self._seaweed, self._store = seaweed, S3Calls(bucket)
        self._began_at: float | None = None
        self._is_over = False
        self._last = 0.0
        self.steps, self.longest_secs = 0, 0.0
        self.saved: list[int] = []
        self.saved_meanwhile = False

    def on_saved(self, step: int) -> None:
        self.saved_meanwhile = self.saved_meanwhile or (self._began_at is not None and not self._is_over)
        self.saved.append(step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if self._began_at is None:
            self._begin_when_uploading()
        elif not self._is_over:
            self._count_step()
        elif self.saved:
            run_context.request_stop()

    def _begin_when_uploading(self) -> None:
        if self._store.call("list_multipart_uploads", Prefix=self._prefix).get("Uploads"):
            self._seaweed.kill()
            self._began_at = self._last = time.monotonic()

    def _count_step(self) -> None:
        now = time.monotonic()
        self.longest_secs = max(self.longest_secs, now - self._last)
        self.steps, self._last = self.steps + 1, now
        if self._began_at is not None and now - self._began_at > OUTAGE_SECS:
            # By this thread, with which the server would end.
            self._seaweed.start()
            self._is_over = True


def test_a_training_goes_on_while_its_store_is_away_and_is_saved_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_seaweed(tmp_path / "seaweed") as seaweed:
        use(seaweed.environ(), monkeypatch)
        model_dir = seaweed.new_url()
        outage = Outage(seaweed, model_dir)
        config = tfe.RunConfig(save_checkpoints_secs=30)

        tfe.Estimator(model_fn, model_dir, config=config).train(input_fn, hooks=[outage])

        assert outage.steps > 100
        assert outage.longest_secs < 5
        assert not outage.saved_meanwhile
        assert outage.saved[0] == 1, "the save that was under way arrived"
        assert [info.state for info in list_checkpoints(model_dir)] == ["complete"] * len(outage.saved)
        directory = open_directory(model_dir)
        for step in outage.saved:
            BundleReader(directory, f"model.ckpt-{step}").verify()
