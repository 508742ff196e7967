"""Checkpoints of one model_dir: verified and restored for a session. This is what the estimator uses."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.checkpoint.graph_view import ObjectGraphView  # of the public tf.train.Checkpoint's inside

from runner.checkpoint.compatibility import TensorSpecs, wanted_tensors
from runner.checkpoint.inventory import CHECKPOINT_BASENAME, step_of
from runner.checkpoint.restoring import LoadedCheckpoint, Restorer
from runner.checkpoint.selection import select
from runner.storage.urls import join, split_prefix

__all__ = ["Checkpoints", "as_saver"]


class Checkpoints:
    """The checkpoints of a model_dir, as one graph sees them. Not thread-safe.

    Args:
        model_dir: As the user gave it.
        saver: A built tf.compat.v1.train.Saver of the graph.
    """

    def __init__(self, model_dir: str, saver: Any) -> None:
        self._model_dir = model_dir
        self._saver = saver

    @functools.cached_property
    def _restorer(self) -> Restorer:
        return Restorer(self._saver)  # which may be built later than this object is made

    @property
    def basename(self) -> str:
        """Path of every checkpoint without `-<step>`."""
        return join(self._model_dir, CHECKPOINT_BASENAME)

    @property
    def wanted(self) -> TensorSpecs:
        """Names, shapes and dtypes of what a checkpoint of this graph holds."""
        return wanted_tensors(self._saver)

    def at_step(self, step: int) -> str:
        """The prefix of the checkpoint of that step, whether it exists or not."""
        return f"{self.basename}-{step}"

    def is_own(self, prefix: str) -> bool:
        """Whether that is a checkpoint of this model_dir, by the name that its step gives it."""
        return split_prefix(prefix) == split_prefix(self.at_step(step_of(prefix) or 0))

    def load(self, prefix: str, *, training: bool) -> LoadedCheckpoint:
        """Reads a checkpoint into memory and verifies it; see `Restorer.load`."""
        return self._restorer.load(prefix, training=training)

    def load_latest(self, *, set_aside: Callable[[Sequence[str]], object] = lambda _: None) -> LoadedCheckpoint | None:
        """Loads what a training goes on from: the latest checkpoint that is whole. Chief only.

        Args:
            set_aside: Called with the basenames of those that it finds damaged, if there are any: they stay where they
                are, and `checkpoint` is not to name them any more.

        Returns:
            The checkpoint; None if there is none at all.

        Raises:
            CheckpointError: There are checkpoints, and all of them are damaged.
            tf.errors.InvalidArgumentError: It does not fit the graph; see `check_compatible`.
            tf.errors.NotFoundError: It lacks tensors; likewise.
        """
        selected = select(self._model_dir, functools.partial(self.load, training=True))
        if selected is None:
            return None
        if selected.set_aside:
            set_aside([split_prefix(prefix)[1] for prefix in selected.set_aside])
        return selected.loaded

    def restore(self, session: Any, loaded: LoadedCheckpoint) -> None:
        """Assigns what was loaded, which is used up by it."""
        self._restorer.assign(session, loaded)


def as_saver(saver: Any) -> Any:
    """What a Scaffold was given as its saver, as a tf.compat.v1.train.Saver of the default graph.

    Args:
        saver: Such a Saver; or a tf.train.Checkpoint, whose objects are then saved in its own, object-based format.
    """
    if not isinstance(saver, tf.train.Checkpoint):
        return saver
    return tf.compat.v1.train.Saver(var_list=ObjectGraphView(saver).frozen_saveable_objects(), sharded=True)
