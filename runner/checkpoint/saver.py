"""Checkpoints of one model_dir: written, verified and restored for a session.

This is the interface that the estimator uses; the inside is TensorFlow's Saver on a local disk.
"""

import logging
import os
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.checkpoint.graph_view import ObjectGraphView  # of the public tf.train.Checkpoint's inside

from runner.checkpoint.compatibility import (
    TensorSpecs,
    check_compatible,
    stored_tensors,
    wanted_tensors,
    wanted_variables,
)
from runner.checkpoint.foreign import ForeignNames, find_foreign_names
from runner.checkpoint.listing import CHECKPOINT_BASENAME, latest_checkpoint

__all__ = ["Checkpoints", "as_saver"]

_logger = logging.getLogger("tensorflow")


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
        self._foreign_names: dict[str, ForeignNames] = {}  # by the prefix of a verified checkpoint

    @property
    def basename(self) -> str:
        """Path of every checkpoint without `-<step>`."""
        return os.path.join(self._model_dir, CHECKPOINT_BASENAME)

    @property
    def wanted(self) -> TensorSpecs:
        """Names, shapes and dtypes of what a checkpoint of this graph holds."""
        return wanted_tensors(self._saver)

    def latest(self) -> str | None:
        """The prefix of the newest checkpoint; None if there is none yet."""
        return latest_checkpoint(self._model_dir)

    def at_step(self, step: int) -> str:
        """The prefix of the checkpoint of that step, whether it exists or not."""
        return f"{self.basename}-{step}"

    def verify(self, prefix: str, *, training: bool) -> None:
        """Raises, before anything changed, unless the checkpoint fits the graph; see `check_compatible`.

        Raises:
            ValueError: There is no checkpoint at the prefix.
        """
        wanted, stored = self.wanted, stored_tensors(prefix)
        names = find_foreign_names(wanted, stored)
        if names and wanted.keys() - wanted_variables(self._saver).keys():
            names = ForeignNames()  # the v1 classes have variables only
        check_compatible(prefix, wanted=wanted, stored=names.translate(wanted, stored), training=training)
        self._foreign_names[prefix] = names
        if names.sources:
            _logger.warning(
                "%s is one of tf.compat.v1.train optimizers, as of the v1 classes of tf.estimator: restoring %d "
                "tensors from the names they have there. It has no value for: %s. The next checkpoint has the names of "
                "this model.",
                prefix,
                len(names.sources),
                ", ".join(sorted(names.initial)) or "none",
            )
        elif names:
            _logger.warning(
                "%s has no slots of a shared embedding, as tf.estimator never trained one. It is trained from here on, "
                "with the initial values of: %s.",
                prefix,
                ", ".join(sorted(names.initial)),
            )

    def restore(self, session: Any, prefix: str) -> None:
        """Assigns the state stored at the prefix; `verify` it first."""
        if initializers := tf.compat.v1.get_collection("saved_model_initializers"):
            session.run(initializers)  # before the restore, which has the last word on their variables
        if names := self._foreign_names.get(prefix):
            self._restore_foreign(session, prefix, names)
        else:
            self._saver.restore(session, prefix)

    def _restore_foreign(self, session: Any, prefix: str, names: ForeignNames) -> None:
        """Assigns by the initializers: the ops of the saver read all tensors, by the names of the model, or none."""
        _logger.info("Restoring parameters from %s", prefix)
        reader = tf.train.load_checkpoint(prefix)
        for name, variable in wanted_variables(self._saver).items():
            # One by one: two variables may have their initial value from one tensor, which is fed once in a run.
            initializer = variable.initializer
            source = names.sources.get(name, name)
            value = {} if name in names.initial else {initializer.inputs[1]: reader.get_tensor(source)}
            session.run(initializer, feed_dict=value)

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
                if index.exists() and index.parent.resolve() == here
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
