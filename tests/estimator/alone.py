"""Collectives of a cluster with one task."""

from typing import Any

import tensorflow as tf


class Alone:
    """Means are the task's own, until a peer ends that is not there; counts the calls by name."""

    count = 1
    index = 0

    def __init__(self) -> None:
        self.peer_has_ended = False
        self.calls: list[str] = []

    def all_reduce_mean(self, flat: Any) -> Any:
        self.calls.append("all_reduce_mean")
        return flat + tf.one_hot(0, flat.shape[0]) if self.peer_has_ended else flat

    def all_gather(self, payload: bytes, *, largest_bytes: int) -> list[memoryview]:
        self.calls.append("all_gather")
        assert len(payload) == largest_bytes
        return [memoryview(payload)]
