"""KeepBestHook: has a training keep its best checkpoint."""

import tensorflow as tf

from runner.checkpoint.retention import KeepBest

__all__ = ["KeepBestHook"]


class KeepBestHook(tf.compat.v1.train.SessionRunHook):
    """Tells the chief which checkpoint to keep beyond the newest; costs nothing in a step.

    Args:
        policy: How the best one is found.
    """

    def __init__(self, policy: KeepBest) -> None:
        self.policy = policy
