"""Snapshots: the state of a model as it is at one step, held while the training goes on.

The value of a dense variable is never copied here: a snapshot holds the buffer that the variable has, and TensorFlow
lets the next update of the variable write into another one, as it does for every value that somebody still reads.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from runner.checkpoint.buffers import Buffers, make_callable
from runner.checkpoint.bundle.dtypes import STRING, numpy_dtype
from runner.checkpoint.bundle.entries import TensorEntry, stored_name
from runner.checkpoint.bundle.layout import Tensor
from runner.checkpoint.bundle.slices import parse_shape_and_slice
from runner.checkpoint.bundle.strings import encode_strings
from runner.checkpoint.shadows import Shadows

__all__ = ["Snapshot", "Snapshots"]

_v1 = tf.compat.v1

_FIRST_TENSOR = {"Save": 2, "SaveSlices": 3, "SaveV2": 3}
"""Operations that write tensors to a file -> number of inputs before these: the file, their names, and their slices."""


class Snapshot:
    """The state of a model at one step. Thread-safe once it is taken.

    Attributes:
        tensors: What is to be written.
        parents: The tensors that some of `tensors` are slices of; they have no bytes themselves.
        checksums: The crc32c of the entries of tensors of strings, which is not that of their bytes.
        bundles: Prefixes on the local disk of bundles that TensorFlow wrote, of what nothing else can write.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.parents: list[TensorEntry] = []
        self.checksums: dict[str, int] = {}
        self.bundles: list[str] = []
        self._bytes: dict[str, memoryview] = {}
        self._shadows: Shadows | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def read(self, tensor: Tensor, start: int, stop: int) -> memoryview:
        """Bytes of a tensor, as they are in a data file."""
        data = self._bytes.get(tensor.name)
        if data is None and self._shadows is not None:
            data = _bytes_of(self._shadows.read(tensor.name))
        if data is None:
            raise ValueError(f"The snapshot has no tensor {tensor.name}, or has been released.")
        return data[start:stop]

    def release(self) -> None:
        """Gives memory and files back; nothing can be read any more. Idempotent."""
        self._bytes.clear()
        shadows, self._shadows = self._shadows, None
        if shadows is not None:
            shadows.release()
        if self._directory is not None:
            self._directory.cleanup()

    def hold(self, name: str, value: Any, *, dtype: str) -> None:
        """Adds a tensor by its value."""
        if dtype == STRING:
            strings = np.asarray(value, dtype=object)
            data, self.checksums[name] = encode_strings([bytes(each) for each in strings.flat])
            self._bytes[name] = memoryview(data)
            self.tensors.append(Tensor(name, dtype, strings.shape, encoded_bytes=len(data)))
        else:
            array = np.asarray(value)
            self._bytes[name] = _bytes_of(array)
            self.tensors.append(Tensor(name, dtype, array.shape))

    def hold_shadows(self, shadows: Shadows) -> None:
        """Adds the tensors that shadows have been given the values of."""
        self._shadows = shadows
        self.tensors += shadows.tensors

    def directory(self) -> Path:
        """A directory on the local disk that is deleted with the snapshot."""
        self._directory = self._directory or tempfile.TemporaryDirectory(prefix="runner-snapshot-")
        return Path(self._directory.name)


class Snapshots:
    """Makes snapshots of what a Saver saves. Not thread-safe.

    The tensors that the Saver's save op writes are held in one of three ways:

    - A dense variable, or a part of a partitioned one, is held by the buffer of its value. A session hands the buffers
      out as they are; one on a tf.distribute.Server does that through a call of Python only. Where there are other
      devices than processors, each value is assigned to a shadow variable, which costs nothing, and fetched later.
    - A value that the graph computes, such as the content of a table or a tensor of strings, is fetched.
    - The rest, such as a reference variable, which is updated in place whoever reads it, and the state of an iterator,
      which only TensorFlow encodes, is written by an operation SaveV2 of its own into a bundle on the local disk.

    Args:
        saver: A built tf.compat.v1.train.Saver of the session's graph. One of a class that saves in its own way writes
            all into a bundle on the local disk.
        session: An open session. Operations are added to its graph only where one of those ways needs them; the graph
            is then as final as it was.
    """

    def __init__(self, saver: Any, session: Any) -> None:
        self._saver = saver
        self._session = session
        self._fetched: list[_Write] = []
        self._fetch: Callable[[], list[Any]] | None = None
        self._buffers: Buffers | None = None
        self._shadows: Shadows | None = None
        self._save_rest: Callable[[bytes], Any] | None = None
        self._parents: list[TensorEntry] = []
        writes = list(_writes(saver, session.graph))
        self._saves_itself = type(saver).save is not _v1.train.Saver.save or not writes
        if not self._saves_itself:
            self._prepare(writes)

    def take(self, step: int) -> Snapshot:
        """The state as it is now, between two steps. It must be released before the next one is taken.

        Args:
            step: The global_step, for a Saver that saves in its own way.

        Raises:
            tf.errors.FailedPreconditionError: A variable has no value.
        """
        snapshot = Snapshot()
        try:
            self._fill(snapshot, step)
        except BaseException:
            snapshot.release()
            raise
        return snapshot

    def _fill(self, snapshot: Snapshot, step: int) -> None:
        if self._saves_itself:
            # What such a class does beside writing, such as deleting old checkpoints, it does in that directory.
            prefix = str(snapshot.directory() / "model.ckpt")
            prefix = self._saver.save(self._session, prefix, global_step=step, write_meta_graph=False)
            snapshot.bundles.append(prefix)
            return
        if self._shadows is not None:
            snapshot.hold_shadows(self._shadows)
            self._shadows.take()
        if self._buffers is not None:
            for name, value in self._buffers.take().items():
                snapshot.hold(name, value, dtype=self._dtypes[name])
        if self._save_rest is not None:
            prefix = str(snapshot.directory() / "rest")
            self._save_rest(prefix.encode())
            snapshot.bundles.append(prefix)
        if self._fetch is not None:
            for write, value in zip(self._fetched, self._fetch(), strict=True):
                snapshot.hold(write.key, value, dtype=write.dtype)
        snapshot.parents += self._parents

    def _prepare(self, writes: Sequence["_Write"]) -> None:
        session = self._session
        dense_way = _way_of_dense(session)
        ways: dict[_Way, list[_Write]] = {way: [] for way in _Way}
        for write in writes:
            ways[_Way.SAVE if not write.is_fetchable else dense_way if write.is_dense else _Way.FETCH].append(write)
        self._fetched = ways.pop(_Way.FETCH)
        self._dtypes = {write.key: write.dtype for write in ways[_Way.CALL]}
        self._parents = list(_parents(write for write in writes if write.is_fetchable))
        if self._fetched:
            self._fetch = make_callable(session, fetches=[write.read for write in self._fetched])
        if any(ways.values()):
            self._add_operations(ways)

    def _add_operations(self, ways: Mapping["_Way", Sequence["_Write"]]) -> None:
        session, graph = self._session, self._session.graph
        reads = {way: {write.key: write.read for write in writes} for way, writes in ways.items()}
        is_final = graph.finalized
        graph._unsafe_unfinalize()  # noqa: SLF001 - nothing that a user could have seen is changed
        try:
            with graph.as_default(), tf.device(None), tf.control_dependencies(None), tf.name_scope("snapshot"):
                self._buffers = Buffers(reads[_Way.CALL]) if ways[_Way.CALL] else None
                self._shadows = Shadows(reads[_Way.SHADOW]) if ways[_Way.SHADOW] else None
                op_of_rest = _save_op(ways[_Way.SAVE]) if ways[_Way.SAVE] else None
        finally:
            if is_final:
                graph.finalize()
        if self._buffers is not None:
            self._buffers.prepare(session)
        if self._shadows is not None:
            self._shadows.prepare(session)
        if op_of_rest is not None:
            self._save_rest = make_callable(session, feeds=[op_of_rest.inputs[0]], targets=[op_of_rest])


class _Way(Enum):
    """How a value is held; see Snapshots."""

    FETCH = "fetch"
    CALL = "call"
    SHADOW = "shadow"
    SAVE = "save"


def _way_of_dense(session: Any) -> _Way:
    """How values of dense variables are held without a copy."""
    if any("CPU" not in device.device_type for device in session.list_devices()):
        return _Way.SHADOW
    return _Way.CALL if session.sess_str else _Way.FETCH


class _Write(NamedTuple):
    """A tensor that the save op of a Saver writes.

    Attributes:
        name: In the checkpoint.
        shape_and_slice: Which part of the tensor of that name it is, as in the input of SaveV2; empty: all of it.
        value: The tensor of the graph.
    """

    name: str
    shape_and_slice: str
    value: Any

    @property
    def key(self) -> str:
        """The name of its entry in the index."""
        part = parse_shape_and_slice(self.shape_and_slice)
        return self.name if part is None or part[1].is_whole(part[0]) else stored_name(self.name, part[1])

    @property
    def dtype(self) -> str:
        """As tf.DType.name."""
        return self.value.dtype.base_dtype.name

    @property
    def read(self) -> Any:
        """What reads the variable, before the value is brought to the processor; other values are read as they are."""
        tensor = self.value
        while tensor.op.type == "Identity" and not tensor.op.control_inputs:
            tensor = tensor.op.inputs[0]
        return tensor if _is_read_of_variable(tensor) else self.value

    @property
    def is_dense(self) -> bool:
        """Whether it is the value of a dense variable, of a shape that is known."""
        return self.dtype != STRING and _is_read_of_variable(self.read) and self.read.shape.is_fully_defined()

    @property
    def is_fetchable(self) -> bool:
        """Whether a fetched value stays as it is, and is one that our bundles store."""
        try:
            numpy_dtype(self.dtype)
        except ValueError:
            return False
        # A buffer of a reference variable is passed on by Identity, for one, and updated in place.
        return not any(tensor.dtype._is_ref_dtype for tensor in _upstream(self.value))  # noqa: SLF001


def _writes(saver: Any, graph: Any) -> Iterator[_Write]:
    """What the save op of a Saver writes, of whatever version of the format."""
    if saver.saver_def is None or not saver.saver_def.save_tensor_name:
        return
    waiting, seen = [graph.get_tensor_by_name(saver.saver_def.save_tensor_name).op], set[Any]()
    while waiting:
        operation = waiting.pop()
        if operation in seen:
            continue
        seen.add(operation)
        if operation.type in _FIRST_TENSOR:
            yield from _writes_of(operation)
        else:
            waiting += [*operation.control_inputs, *(tensor.op for tensor in operation.inputs)]


def _writes_of(operation: Any) -> Iterator[_Write]:
    first = _FIRST_TENSOR[operation.type]
    _, *described = operation.inputs[:first]
    names, *specs = ([each.decode() for each in tf.get_static_value(tensor)] for tensor in described)
    values = operation.inputs[first:]
    for name, spec, value in zip(names, specs[0] if specs else [""] * len(names), values, strict=True):
        yield _Write(name, spec, value)


def _parents(writes: Iterable[_Write]) -> Iterator[TensorEntry]:
    """The entries of tensors that are written in slices."""
    slices: dict[str, list[Any]] = {}
    firsts: dict[str, tuple[str, tuple[int, ...]]] = {}
    for write in writes:
        if write.key != write.name and (part := parse_shape_and_slice(write.shape_and_slice)):
            slices.setdefault(write.name, []).append(part[1])
            firsts.setdefault(write.name, (write.dtype, part[0]))
    for name, (dtype, shape) in firsts.items():
        yield TensorEntry(name, dtype, shape, slices=tuple(slices[name]))


def _upstream(tensor: Any) -> Iterator[Any]:
    """A tensor and all that it is computed from."""
    waiting, seen = [tensor], set[Any]()
    while waiting:
        each = waiting.pop()
        yield each
        if each.op not in seen:
            seen.add(each.op)
            waiting += each.op.inputs


def _is_read_of_variable(tensor: Any) -> bool:
    operation = tensor.op
    if operation.type != "ReadVariableOp" or operation.control_inputs:
        return False
    return operation.inputs[0].op.type == "VarHandleOp"


def _save_op(writes: Sequence[_Write]) -> Any:
    with tf.device("/device:CPU:0"):
        return tf.raw_ops.SaveV2(
            prefix=_v1.placeholder(tf.string, []),
            tensor_names=[write.name for write in writes],
            shape_and_slices=[write.shape_and_slice for write in writes],
            tensors=[write.value for write in writes],
        )


def _bytes_of(array: np.ndarray) -> memoryview:
    """The bytes of an array, of which numpy itself may not know the dtype."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data.toreadonly()
