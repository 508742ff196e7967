"""Buckets: tensors of one dtype that travel together, since each collective costs about 1 ms whatever its size."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

__all__ = ["BUCKET_BYTES", "Buckets"]

BUCKET_BYTES = 8 * 1024 * 1024
"""A bucket is closed at about this size: a larger one gains nothing, and is a copy of what is in it."""


class Buckets:
    """How some tensors are packed into flat ones, the first of them at the head of the first bucket.

    Args:
        tensors: Symbolic or eager, of any shapes and dtypes.
    """

    def __init__(self, tensors: Sequence[Any]) -> None:
        self._tensors = tensors
        self._buckets = _fill(tensors)

    def pack(self) -> list[Any]:
        """One flat tensor for each bucket."""
        return [
            tf.concat([tf.reshape(self._tensors[index], [-1]) for index in bucket], axis=0) for bucket in self._buckets
        ]

    def unpack(self, flats: Sequence[Any]) -> list[Any]:
        """Tensors of the shapes of those that were packed, in their order.

        Args:
            flats: As `pack` returns them.
        """
        unpacked: list[Any] = [None] * len(self._tensors)
        for bucket, flat in zip(self._buckets, flats, strict=True):
            pieces = tf.split(flat, [tf.size(self._tensors[index]) for index in bucket])
            for index, piece in zip(bucket, pieces, strict=True):
                tensor = self._tensors[index]
                unpacked[index] = tf.ensure_shape(tf.reshape(piece, tf.shape(tensor)), tensor.shape)
        return unpacked

    def mean(self, all_reduce_mean: Callable[[Any], Any]) -> list[Any]:
        """Means over the replicas of eager tensors."""
        return self.unpack([all_reduce_mean(flat) for flat in self.pack()])


def _fill(tensors: Sequence[Any]) -> list[list[int]]:
    """Indices of the tensors of each bucket: of one dtype, in order, up to about BUCKET_BYTES."""
    buckets: list[list[int]] = []
    open_buckets: dict[Any, tuple[list[int], int]] = {}
    for index, tensor in enumerate(tensors):
        n_elements = tensor.shape.num_elements()
        size_bytes = BUCKET_BYTES if n_elements is None else n_elements * tensor.dtype.size
        bucket, filled_bytes = open_buckets.get(tensor.dtype, ([], BUCKET_BYTES))
        if filled_bytes + size_bytes > BUCKET_BYTES:
            bucket, filled_bytes = [], 0
            buckets.append(bucket)
        bucket.append(index)
        open_buckets[tensor.dtype] = bucket, filled_bytes + size_bytes
    return buckets
