"""Where hooks of a user write: what TensorFlow itself would open there has to be a local path."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.remote import is_remote

__all__ = ["check_outputs"]

_v1 = tf.compat.v1


def check_outputs(hooks: Sequence[Any]) -> None:
    """Refuses the hooks that cannot write where they are to. Those that only write events can, wherever that is.

    Raises:
        ValueError: One is TensorFlow's ProfilerHook or CheckpointSaverHook, with a URL that TensorFlow cannot open.
    """
    for hook in hooks:
        if isinstance(hook, _v1.train.ProfilerHook) and is_remote(hook._output_file):  # noqa: SLF001 - no public one
            raise ValueError(
                f"ProfilerHook cannot write its timelines to {hook._output_file}: it opens local files only. "  # noqa: SLF001
                "Give it a local output_dir."
            )
        if isinstance(hook, _v1.train.CheckpointSaverHook) and is_remote(hook._save_path):  # noqa: SLF001
            raise ValueError(
                f"CheckpointSaverHook cannot save to {hook._save_path}: it writes local files only. "  # noqa: SLF001
                "Leave it out: the Estimator saves by save_checkpoints_steps or save_checkpoints_secs of its "
                "RunConfig, and saving_listeners of train() are told of it."
            )
