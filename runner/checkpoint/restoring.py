"""What the restore op of a Saver reads: found in the graph and fed, so that TensorFlow opens no file.

A Saver restores by operations RestoreV2, which read tensors by name from the files of a checkpoint, and by assignments
of what these read. Names and slices are constants of the graph.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

__all__ = ["Read", "RestoreOp", "Slice"]

_READS_FILES = "RestoreV2"


class Slice(NamedTuple):
    """A part of a tensor that several variables make up together.

    Attributes:
        shape: Of the whole tensor.
        starts: First index, by dimension.
        lengths: Number of indices, by dimension.
    """

    shape: tuple[int, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def parse(cls, spec: str) -> "Slice":
        """Reads the notation of TensorFlow: `5 2 0,3:-` is the first three rows of five, of two columns each."""
        *sizes, parts = spec.split()
        shape = tuple(map(int, sizes))
        ranges = [
            (0, size) if part == "-" else tuple(map(int, part.split(",")))
            for part, size in zip(parts.split(":"), shape, strict=True)
        ]
        return cls(shape, tuple(start for start, _ in ranges), tuple(length for _, length in ranges))


class Read(NamedTuple):
    """One tensor that a restore op reads from a checkpoint.

    Attributes:
        name: In the checkpoint.
        part: Which part of it; None means all.
        output: The tensor of the graph that brings it.
    """

    name: str
    part: Slice | None
    output: Any


class RestoreOp:
    """The restore op of a Saver.

    Args:
        saver: A built tf.compat.v1.train.Saver of the default graph.
    """

    def __init__(self, saver: Any) -> None:
        self._saver = saver
        operations = list(_readers(_operation(saver)))
        self.reads = [read for operation in operations for read in _reads(operation)]

    @property
    def takes_arrays(self) -> bool:
        """Whether what it reads can be fed.

        It cannot where it is the state of an iterator, which only TensorFlow decodes, and where a class of the user
        restores in its own way.
        """
        own_way = type(self._saver).restore is not tf.compat.v1.train.Saver.restore
        return not own_way and not any(read.output.dtype == tf.variant for read in self.reads)

    def run(self, session: Any, arrays: Mapping[Any, np.ndarray]) -> None:
        """Assigns.

        Args:
            session: An open session of the graph.
            arrays: For the output of every read, the value. TensorFlow takes a buffer that begins at a multiple of 64
                bytes without a copy, to be that of the variable: nobody may write to it afterwards.
        """
        if self.reads:
            session.run(self._saver.saver_def.restore_op_name, feed_dict={**arrays})

    def run_on_files(self, session: Any, prefix: str) -> None:
        """Assigns what TensorFlow reads from the files of a checkpoint on a local disk.

        Args:
            session: An open session of the graph.
            prefix: A local path.
        """
        self._saver.restore(session, prefix)


def _operation(saver: Any) -> Any:
    """The op itself; None where the Saver has nothing to restore."""
    if saver.saver_def is None:
        return None
    return tf.compat.v1.get_default_graph().get_operation_by_name(saver.saver_def.restore_op_name)


def _readers(operation: Any) -> Iterator[Any]:
    """The operations that read files, of all that an operation waits for."""
    waiting, seen = [operation] if operation is not None else [], set()
    while waiting:
        if (each := waiting.pop()) in seen:
            continue
        seen.add(each)
        if each.type == _READS_FILES:
            yield each
        else:
            waiting += [*each.control_inputs, *(tensor.op for tensor in each.inputs)]


def _reads(operation: Any) -> Iterator[Read]:
    _, names, specs = (tf.get_static_value(tensor) for tensor in operation.inputs)
    for name, spec, output in zip(names, specs, operation.outputs, strict=True):
        yield Read(name.decode(), Slice.parse(spec.decode()) if spec else None, output)
