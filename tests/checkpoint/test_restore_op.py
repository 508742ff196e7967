"""The restore op of a Saver, fed with what it would read from files."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saver_pb2

from runner.checkpoint.restoring import Read, RestoreOp
from runner.checkpoint.saver import as_saver

_v1 = tf.compat.v1


def values_at(prefix: str, reads: list[Read]) -> dict[Any, np.ndarray]:
    """What a checkpoint holds for the reads, by TensorFlow's own reader."""
    reader = tf.train.load_checkpoint(prefix)
    values = {}
    for read in reads:
        whole = reader.get_tensor(read.name)
        if read.part is not None:
            whole = whole[tuple(slice(*bounds) for bounds in read.part.bounds(whole.shape))]
        values[read.output] = np.asarray(whole, read.output.dtype.as_numpy_dtype)
    return values


def build_variables() -> None:
    """Variables of several dtypes and shapes: scalars, strings, nothing at all, parts of a whole, references."""
    random = np.random.default_rng(1)
    _v1.get_variable("weights", initializer=random.normal(size=(7, 3)).astype(np.float32))
    _v1.get_variable("half", initializer=tf.constant([1.5, -2.25], tf.bfloat16))
    _v1.get_variable("step", initializer=np.int64(2**40))
    _v1.get_variable("flag", initializer=True)
    _v1.get_variable("words", initializer=tf.constant([[b"", b"one"], [b"\x00\xff", b"four" * 100]]))
    _v1.get_variable("empty", initializer=np.zeros((0, 4), np.float64))
    _v1.get_variable("reference", initializer=tf.constant([1, 2, 3]), use_resource=False)
    _v1.get_variable(
        "parts",
        [5, 2],
        initializer=_v1.random_uniform_initializer(),
        partitioner=_v1.fixed_size_partitioner(2),
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sharded": True},
        {"restore_sequentially": True},
        {"write_version": saver_pb2.SaverDef.V1},
    ],
    ids=str,
)
def test_a_session_has_every_value_although_the_files_are_gone(tmp_path: Path, settings: dict[str, Any]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with tf.Graph().as_default():
        build_variables()
        saver = _v1.train.Saver(**settings)
        saver.build()
        operation = RestoreOp(saver)
        with _v1.Session() as session:
            session.run(_v1.global_variables_initializer())
            saved = session.run(_v1.global_variables())
            _v1.train.Saver().save(session, str(gone / "model.ckpt"))
        values = values_at(str(gone / "model.ckpt"), operation.reads)
        shutil.rmtree(gone)

        with _v1.Session() as session:
            operation.run(session, values)
            restored = session.run(_v1.global_variables())

    assert operation.takes_arrays
    assert len(operation.reads) == len(saved) == 9
    for value, expected in zip(restored, saved, strict=True):
        assert np.asarray(value).dtype == np.asarray(expected).dtype
        assert np.asarray(value).tolist() == np.asarray(expected).tolist()


def test_a_saver_of_several_devices_has_an_operation_for_each_of_them() -> None:
    with tf.Graph().as_default():
        for index in (0, 1):
            with tf.device(f"/cpu:{index}"):
                _v1.get_variable(f"on_{index}", initializer=float(index))
        saver = _v1.train.Saver(sharded=True)
        saver.build()
        operation = RestoreOp(saver)
        with _v1.Session(config=_v1.ConfigProto(device_count={"CPU": 2})) as session:
            operation.run(
                session, {read.output: np.array(10 + int(read.name[-1]), np.float32) for read in operation.reads}
            )
            restored = session.run(_v1.global_variables())

    assert len({read.output.op.name for read in operation.reads}) == 2
    assert restored == [10.0, 11.0]


def test_a_table_gets_its_keys_and_values() -> None:
    with tf.Graph().as_default():
        table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1, name="table")
        saver = _v1.train.Saver()
        saver.build()
        operation = RestoreOp(saver)
        stored = {"table-keys": np.array([b"a", b"b"], object), "table-values": np.array([5, 6])}
        with _v1.Session() as session:
            operation.run(session, {read.output: stored[read.name] for read in operation.reads})
            found = session.run(table.lookup(tf.constant(["b", "c", "a"])))

    assert found.tolist() == [6, -1, 5]


def test_objects_of_a_checkpoint_are_read_by_the_names_of_its_own_format() -> None:
    with tf.Graph().as_default():
        saver = as_saver(tf.train.Checkpoint(step=tf.Variable(1, name="first"), weight=tf.Variable([1.0, 2.0])))
        saver.build()
        names = [read.name for read in RestoreOp(saver).reads]

    assert sorted(names) == ["step/.ATTRIBUTES/VARIABLE_VALUE", "weight/.ATTRIBUTES/VARIABLE_VALUE"]


def aligned(shape: tuple[int, ...], *, offset_bytes: int) -> np.ndarray:
    size = int(np.prod(shape)) * 4
    buffer = np.zeros(size + 128, np.uint8)
    start = -buffer.ctypes.data % 64 + offset_bytes
    return buffer[start : start + size].view(np.float32).reshape(shape)


@pytest.mark.parametrize(("offset_bytes", "is_shared"), [(0, True), (4, False)])
def test_a_buffer_at_a_multiple_of_64_bytes_is_taken_without_a_copy(*, offset_bytes: int, is_shared: bool) -> None:
    with tf.Graph().as_default():
        weights = _v1.get_variable("weights", [256, 16], initializer=_v1.zeros_initializer(), use_resource=True)
        saver = _v1.train.Saver()
        saver.build()
        operation = RestoreOp(saver)
        with _v1.Session() as session:
            value = aligned((256, 16), offset_bytes=offset_bytes)
            operation.run(session, {operation.reads[0].output: value})
            value[3, 4] = 42.0  # which nobody may do, other than to see whose the buffer is
            restored = session.run(weights)

    assert bool(restored[3, 4] == 42.0) is is_shared


def build_iterator() -> Any:
    iterator = _v1.data.make_initializable_iterator(tf.data.Dataset.range(3))
    return _v1.train.Saver([tf.data.experimental.make_saveable_from_iterator(iterator)])


def build_own_class() -> Any:
    class OwnSaver(tf.compat.v1.train.Saver):
        def restore(self, session: Any, save_path: str) -> None:
            super().restore(session, save_path)

    _v1.get_variable("weight", [])
    return OwnSaver()


@pytest.mark.parametrize("build", [build_iterator, build_own_class])
@pytest.mark.filterwarnings("ignore:.*make_saveable_from_iterator")
def test_what_only_tensorflow_can_restore_takes_no_arrays(build: Callable[[], Any]) -> None:
    with tf.Graph().as_default():
        saver = build()
        saver.build()

        assert not RestoreOp(saver).takes_arrays


def test_a_saver_of_nothing_reads_nothing() -> None:
    with tf.Graph().as_default(), _v1.Session() as session:
        saver = _v1.train.Saver(allow_empty=True)
        saver.build()
        operation = RestoreOp(saver)
        operation.run(session, {})

    assert operation.reads == []
