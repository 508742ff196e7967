"""The table in which SDCA keeps the dual state of every example, in shards."""

from typing import Any

import tensorflow as tf

__all__ = ["ExampleStates"]


class ExampleStates:
    """Four numbers for every example that was seen, by the fingerprint of its id; saved in checkpoints.

    Args:
        num_shards: Number of tables; an example belongs to one of them by its fingerprint.
    """

    def __init__(self, num_shards: int) -> None:
        self._shards = [
            tf.lookup.experimental.DenseHashTable(
                key_dtype=tf.int64,
                value_dtype=tf.float32,
                default_value=[0.0] * 4,
                # The first half of a fingerprint is never 0 or 1.
                empty_key=[0, 0],
                deleted_key=[1, 1],
                name=f"ShardedMutableHashTable-{index + 1}-of-{num_shards}",
            )
            for index in range(num_shards)
        ]

    def size(self) -> Any:
        """Number of examples seen, a scalar int64."""
        return tf.add_n([shard.size() for shard in self._shards])

    def lookup(self, fingerprints: Any) -> Any:
        """States `[n, 4] float32` of fingerprints `[n, 2] int64`; zeros for new examples."""
        shard_of_each = self._shard_of_each(fingerprints)
        keys = tf.dynamic_partition(fingerprints, shard_of_each, len(self._shards))
        rows = tf.dynamic_partition(tf.range(tf.shape(fingerprints)[0]), shard_of_each, len(self._shards))
        found = [shard.lookup(each) for shard, each in zip(self._shards, keys, strict=True)]
        return tf.ensure_shape(tf.dynamic_stitch(rows, found), [None, 4])

    def insert(self, fingerprints: Any, states: Any) -> Any:
        """An op that stores the states `[n, 4]` of fingerprints `[n, 2]`."""
        shard_of_each = self._shard_of_each(fingerprints)
        keys = tf.dynamic_partition(fingerprints, shard_of_each, len(self._shards))
        values = tf.dynamic_partition(states, shard_of_each, len(self._shards))
        return tf.group(*[shard.insert(*each) for shard, *each in zip(self._shards, keys, values, strict=True)])

    def total(self) -> Any:
        """The sum of the states of all examples, `[4] float64`."""
        exported = [shard.export()[1] for shard in self._shards]
        return tf.add_n([tf.reduce_sum(tf.cast(states, tf.float64), axis=0) for states in exported])

    def _shard_of_each(self, fingerprints: Any) -> Any:
        return tf.cast(tf.abs(fingerprints[:, 0]) % len(self._shards), tf.int32)
