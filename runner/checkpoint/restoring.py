"""Restoring a session: what a checkpoint holds is read into memory, verified, and fed to the restore op of a Saver.

TensorFlow opens no file for it, so that a checkpoint may lie wherever a Directory can be. A Saver restores by
operations RestoreV2, which read tensors by name from files, and by assignments of what these read. Names and slices are
constants of the graph.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from runner.checkpoint.bundle.dtypes import VARIANT
from runner.checkpoint.bundle.reader import BundleReader
from runner.checkpoint.bundle.slices import Slice, parse_shape_and_slice
from runner.checkpoint.compatibility import (
    TensorSpecs,
    check_compatible,
    stored_tensors,
    wanted_tensors,
    wanted_variables,
)
from runner.checkpoint.foreign import ForeignNames, find_foreign_names
from runner.checkpoint.local_copy import local_prefix
from runner.checkpoint.reading import open_checkpoint

__all__ = ["LoadedCheckpoint", "Read", "RestoreOp", "Restorer"]

_logger = logging.getLogger("tensorflow")

_READS_FILES = "RestoreV2"


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
        self.reads = [read for operation in _readers(_operation(saver)) for read in _reads(operation)]

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
        part = parse_shape_and_slice(spec.decode())
        yield Read(name.decode(), part[1] if part else None, output)


@dataclass
class LoadedCheckpoint:
    """A checkpoint that fits a graph, in memory and verified.

    Attributes:
        prefix: Where it was read.
        initial: Names of variables that it has nothing for: they keep their initial values.
        arrays: By the tensor that brings it, each value; emptied by the restore, so that variables own their memory.
            None where only TensorFlow can restore it, from files.
    """

    prefix: str
    initial: frozenset[str] = frozenset()
    arrays: dict[Any, np.ndarray] | None = field(default=None, repr=False)


class Restorer:
    """Restores sessions of one graph from checkpoints, wherever these are. Not thread-safe.

    Args:
        saver: A built tf.compat.v1.train.Saver of the default graph.
    """

    def __init__(self, saver: Any) -> None:
        self._saver = saver
        self._operation = RestoreOp(saver)
        self._variables = wanted_variables(saver)

    @property
    def wanted(self) -> TensorSpecs:
        """Names, shapes and dtypes of what a checkpoint of the graph holds."""
        return wanted_tensors(self._saver)

    def load(self, prefix: str, *, training: bool) -> LoadedCheckpoint:
        """Compares a checkpoint with the graph, then reads it and checks every byte read. Changes nothing.

        Args:
            prefix: Local path or URL.
            training: See `check_compatible`. In a training tensors that the graph does not want are verified as well:
                what the chief goes on from, others may read in full.

        Raises:
            ValueError: There is no checkpoint at the prefix.
            CheckpointDamagedError: It is damaged.
            tf.errors.InvalidArgumentError: It does not fit; see `check_compatible`.
            tf.errors.NotFoundError: It lacks tensors; likewise.
            StorageError: It cannot be read now.
        """
        reader = open_checkpoint(prefix)
        names = self._compare(prefix, stored_tensors(reader), training=training)
        if not self._operation.takes_arrays:
            reader.verify()
            return LoadedCheckpoint(prefix)
        arrays = self._read(reader, names, all_of_it=training)
        return LoadedCheckpoint(prefix, names.initial, arrays)

    def assign(self, session: Any, loaded: LoadedCheckpoint) -> None:
        """Gives the variables of a session the values of a checkpoint, which is used up by it."""
        if initializers := tf.compat.v1.get_collection("saved_model_initializers"):
            session.run(initializers)  # before the restore, which has the last word on their variables
        if loaded.arrays is None:
            with tempfile.TemporaryDirectory(prefix="runner-restore-") as scratch:
                self._operation.run_on_files(session, local_prefix(loaded.prefix, Path(scratch)))
            return
        _logger.info("Restoring parameters from %s", loaded.prefix)
        arrays, loaded.arrays = loaded.arrays, {}
        self._operation.run(session, arrays)
        for name in sorted(loaded.initial):
            session.run(self._variables[name].initializer)

    def _compare(self, prefix: str, stored: TensorSpecs, *, training: bool) -> ForeignNames:
        wanted = self.wanted
        names = find_foreign_names(wanted, stored)
        if names and wanted.keys() - self._variables.keys():
            names = ForeignNames()  # the v1 classes have variables only
        check_compatible(prefix, wanted=wanted, stored=names.translate(wanted, stored), training=training)
        _tell(prefix, names)
        return names

    def _read(self, reader: BundleReader, names: ForeignNames, *, all_of_it: bool) -> dict[Any, np.ndarray]:
        reads = [read for read in self._operation.reads if read.name not in names.initial]
        wanted = [(names.sources.get(read.name, read.name), read.part) for read in reads]
        if all_of_it:
            used = {name for name, _ in wanted}
            rest = [name for name, entry in reader.entries.items() if name not in used and entry.dtype != VARIANT]
        else:
            rest = []
        values = reader.read_slices([*wanted, *((name, None) for name in rest)])
        arrays = dict(zip((read.output for read in reads), values[: len(reads)], strict=True))
        for read in self._operation.reads:
            if read.name in names.initial:
                # It only has to be there, its memory is never touched: the initializer follows.
                arrays[read.output] = np.zeros(self._variables[read.name].shape, read.output.dtype.as_numpy_dtype)
        return arrays


def _tell(prefix: str, names: ForeignNames) -> None:
    initial = ", ".join(sorted(names.initial))
    if names.sources:
        _logger.warning(
            "%s is one of tf.compat.v1.train optimizers, as of the v1 classes of tf.estimator: restoring %d "
            "tensors from the names they have there. It has no value for: %s. The next checkpoint has the names of "
            "this model.",
            prefix,
            len(names.sources),
            initial or "none",
        )
    elif names:
        _logger.warning(
            "%s has no slots of a shared embedding, as tf.estimator never trained one. It is trained from here on, "
            "with the initial values of: %s.",
            prefix,
            initial,
        )
