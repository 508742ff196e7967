"""Checkpoints of one model_dir: written, verified and restored for a session. This is what the estimator uses."""

import functools
import os
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.checkpoint.graph_view import ObjectGraphView  # of the public tf.train.Checkpoint's inside

from runner.checkpoint.compatibility import TensorSpecs, wanted_tensors
from runner.checkpoint.listing import CHECKPOINT_BASENAME, step_of
from runner.checkpoint.restoring import LoadedCheckpoint, Restorer
from runner.checkpoint.selection import select
from runner.storage.urls import split_prefix

__all__ = ["Checkpoints", "as_saver"]


class Checkpoints:
    """The checkpoints of a model_dir, as one graph sees them. Not thread-safe.

    Args:
        model_dir: Local directory; created by the first save.
        saver: A built tf.compat.v1.train.Saver of the graph; its settings are the retention.
        save_graph_def: Whether `.meta` is written beside every checkpoint.
    """

    def __init__(self, model_dir: str, saver: Any, *, save_graph_def: bool = True) -> None:
        self._model_dir = model_dir
        self._saver = saver
        self._save_graph_def = save_graph_def
        self._meta_graph: Any = None
        self._set_aside: tuple[str, ...] = ()

    @functools.cached_property
    def _restorer(self) -> Restorer:
        return Restorer(self._saver)  # which may be built later than this object is made

    @property
    def basename(self) -> str:
        """Path of every checkpoint without `-<step>`."""
        return os.path.join(self._model_dir, CHECKPOINT_BASENAME)

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

    def load_latest(self) -> LoadedCheckpoint | None:
        """Loads what a training goes on from: the latest checkpoint that is whole. Chief only.

        Those that it finds damaged are set aside: they stay where they are, and are no longer named by `checkpoint`
        from the next save on.

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
        self._set_aside = selected.set_aside
        return selected.loaded

    def restore(self, session: Any, loaded: LoadedCheckpoint) -> None:
        """Assigns what was loaded, which is used up by it."""
        self._restorer.assign(session, loaded)

    def resume_retention(self) -> None:
        """Counts the checkpoints that earlier runs left in model_dir among those to keep. Chief only.

        Those of other directories, which a `checkpoint` file may name too, are not ours to delete.
        """
        if state := tf.train.get_checkpoint_state(self._model_dir):
            indexes = [(prefix, Path(f"{prefix}.index")) for prefix in state.all_model_checkpoint_paths]
            here = Path(self._model_dir).resolve()
            written = [
                (prefix, index.stat().st_mtime)
                for prefix, index in indexes
                if index.exists() and index.parent.resolve() == here and prefix not in self._set_aside
            ]
            self._saver.set_last_checkpoints_with_time(written)

    def keep_graph(self) -> None:
        """Lets the `.meta` of all checkpoints hold the default graph as it is now: what is added later is no model."""
        if self._save_graph_def and self._meta_graph is None:
            self._meta_graph = self._saver.export_meta_graph()

    def save(self, session: Any, step: int) -> str:
        """Writes and publishes a checkpoint, and deletes what retention no longer keeps. Chief only.

        Returns:
            Its prefix.
        """
        Path(self._model_dir).mkdir(parents=True, exist_ok=True)
        self.keep_graph()
        prefix: str = self._saver.save(session, self.basename, global_step=step, write_meta_graph=False)
        if self._meta_graph is not None:
            tf.io.write_graph(self._meta_graph, *os.path.split(f"{prefix}.meta"), as_text=False)
        return prefix


def as_saver(saver: Any) -> Any:
    """What a Scaffold was given as its saver, as a tf.compat.v1.train.Saver of the default graph.

    Args:
        saver: Such a Saver; or a tf.train.Checkpoint, whose objects are then saved in its own, object-based format.
    """
    if not isinstance(saver, tf.train.Checkpoint):
        return saver
    return tf.compat.v1.train.Saver(var_list=ObjectGraphView(saver).frozen_saveable_objects(), sharded=True)
