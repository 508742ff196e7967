"""Shadow variables: values of variables, held where the variables are until another thread has read them."""

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from runner.checkpoint.buffers import make_callable
from runner.checkpoint.bundle.layout import Tensor

__all__ = ["Shadows"]

_CHUNK_BYTES = 32 << 20
_MOST_CHUNKS = 48
"""To make a callable takes time in proportion to the graph, so that a large model has chunks in proportion to it."""

_KEPT_CHUNKS = 2
"""As many as there are threads that read."""


class Shadows:
    """For each of some variables one more, in no collection, that shares its value at the moment of `take`.

    Adds its operations to the default graph.

    Args:
        reads: The ReadVariableOp of each variable, by the name of its tensor in a checkpoint.
    """

    def __init__(self, reads: Mapping[str, Any]) -> None:
        self.tensors = [
            Tensor(name, read.dtype.base_dtype.name, tuple(read.shape.as_list())) for name, read in reads.items()
        ]
        handles = [_shadow_of(read) for read in reads.values()]
        self._take_op = tf.group(
            *(
                tf.raw_ops.AssignVariableOp(resource=handle, value=read)
                for handle, read in zip(handles, reads.values(), strict=True)
            )
        )
        self._reads = [
            tf.raw_ops.ReadVariableOp(resource=handle, dtype=read.dtype)
            for handle, read in zip(handles, reads.values(), strict=True)
        ]
        self._release_op = tf.group(
            *(tf.raw_ops.DestroyResourceOp(resource=handle, ignore_lookup_error=True) for handle in handles)
        )
        self._chunks = list(_chunks([tensor.size_bytes for tensor in self.tensors]))
        self._chunk_of = {
            self.tensors[index].name: number for number, chunk in enumerate(self._chunks) for index in chunk
        }
        self._values: dict[int, dict[str, np.ndarray]] = {}
        self._lock = threading.Lock()

    def prepare(self, session: Any) -> None:
        """Makes the session ready, so that nothing of the graph is looked at while the training goes on."""
        self.take: Callable[[], Any] = make_callable(session, targets=[self._take_op])
        self._release = make_callable(session, targets=[self._release_op])
        self._fetches = [
            make_callable(session, fetches=[self._reads[index] for index in chunk]) for chunk in self._chunks
        ]

    def read(self, name: str) -> np.ndarray:
        """The value that was taken. Thread-safe; best called in the order of `tensors`, by few threads."""
        number = self._chunk_of[name]
        with self._lock:
            if number not in self._values:
                while len(self._values) >= _KEPT_CHUNKS:
                    del self._values[next(iter(self._values))]
                names = [self.tensors[index].name for index in self._chunks[number]]
                values = map(np.asarray, self._fetches[number]())
                self._values[number] = dict(zip(names, values, strict=True))
            return self._values[number][name]

    def release(self) -> None:
        """Gives the values up."""
        with self._lock:
            self._values.clear()
            self._release()


def _shadow_of(read: Any) -> Any:
    """The handle of a new variable where the one that is read is."""
    with tf.compat.v1.colocate_with(read.op.inputs[0].op, ignore_existing=True):
        # Sessions on one tf.distribute.Server share their variables by name.
        return tf.raw_ops.VarHandleOp(dtype=read.dtype, shape=read.shape, shared_name=f"snapshot_{uuid.uuid4().hex}")


def _chunks(sizes_bytes: Sequence[int]) -> list[list[int]]:
    """Indices of what is read in one run: some MiB, or one tensor."""
    limit = max(_CHUNK_BYTES, sum(sizes_bytes) // _MOST_CHUNKS)
    chunks: list[list[int]] = [[]]
    size = 0
    for index, size_bytes in enumerate(sizes_bytes):
        if chunks[-1] and size + size_bytes > limit:
            chunks.append([])
            size = 0
        chunks[-1].append(index)
        size += size_bytes
    return chunks
