"""Snapshots of a model in mid-training, in a session of this process and in one on a server."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner.checkpoint.bundle.dtypes import STRING, numpy_dtype
from runner.checkpoint.bundle.strings import decode_strings
from runner.checkpoint.saver import as_saver
from runner.checkpoint.snapshot import Snapshot, Snapshots
from runner.estimator.fused_steps import FusedSteps

v1 = tf.compat.v1

CONFIG = v1.ConfigProto(device_count={"CPU": 2})

OpenSession = Callable[[], Any]


@pytest.fixture(scope="module")
def server() -> Any:
    return tf.distribute.Server.create_local_server(config=CONFIG)


@pytest.fixture(params=["in this process", "on a server"])
def open_session(request: pytest.FixtureRequest) -> Iterator[OpenSession]:
    """Opens a session on the default graph with all variables initialized; closed at the end."""
    sessions: list[Any] = []
    target = ""
    if request.param == "on a server":
        target = request.getfixturevalue("server").target
        v1.Session.reset(target)  # sessions there share their variables, by name

    def open_one() -> Any:
        session = v1.Session(target, config=CONFIG)
        sessions.append(session)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        return session

    with tf.Graph().as_default():
        yield open_one
        for session in sessions:
            session.close()


def read(snapshot: Snapshot) -> dict[str, Any]:
    """All values of a snapshot, by name."""
    return {tensor.name: read_one(snapshot, tensor) for tensor in snapshot.tensors}


def read_one(snapshot: Snapshot, tensor: Any) -> Any:
    data = snapshot.read(tensor, 0, tensor.size_bytes)
    if tensor.dtype == STRING:
        return decode_strings(bytes(data), tensor.shape)[0]
    return np.frombuffer(bytes(data), numpy_dtype(tensor.dtype)).reshape(tensor.shape)


def values_of(session: Any, variables: list[Any]) -> dict[str, Any]:
    return {
        variable.op.name: np.array(value, copy=True)
        for variable, value in zip(variables, session.run(variables), strict=True)
    }


def assert_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name, strict=True)


def build_training() -> Any:
    """Dense, sparse, scattered and partial updates of variables with slots; returns the op that is one step."""
    rng = np.random.default_rng(1)
    dense = v1.get_variable("dense", initializer=rng.normal(size=(300, 200)).astype(np.float32))
    half = v1.get_variable("half", initializer=tf.constant(rng.normal(size=999), tf.bfloat16))
    table = v1.get_variable("table", initializer=rng.normal(size=(500, 16)).astype(np.float32))
    counts = v1.get_variable("counts", [7], tf.int32, v1.zeros_initializer(), trainable=False)
    window = v1.get_variable("window", [50], tf.float64, v1.zeros_initializer(), trainable=False)
    frozen = v1.get_variable("frozen", [64], initializer=v1.ones_initializer(), trainable=False)
    step = v1.train.get_or_create_global_step()
    rows = tf.random.uniform([40], 0, 500, tf.int32)
    loss = (
        tf.reduce_sum(tf.square(dense) - dense)
        + tf.reduce_sum(tf.cast(half, tf.float32))
        + tf.reduce_sum(tf.sin(tf.nn.embedding_lookup(table, rows)))
        + tf.reduce_sum(frozen)
    )
    return tf.group(
        v1.train.AdamOptimizer(0.1).minimize(loss, step, var_list=[dense, table]),
        v1.train.FtrlOptimizer(0.1).minimize(loss, var_list=[table]),
        v1.assign_add(half, tf.ones_like(half)),
        v1.scatter_add(counts, [1, 3], [1, 2]),
        window[10:20].assign(tf.random.normal([10], dtype=tf.float64)),
    )


def test_a_snapshot_keeps_the_values_of_its_step_while_the_training_goes_on(open_session: OpenSession) -> None:
    train_op = build_training()
    saver = v1.train.Saver(sharded=True)
    session = open_session()
    snapshots = Snapshots(saver, session)
    train = session.make_callable(train_op)

    for step in range(8):
        expected = values_of(session, v1.global_variables())
        snapshot = snapshots.take(step)
        found: list[dict[str, Any]] = []
        reader = threading.Thread(target=lambda taken=snapshot, result=found: result.append(read(taken)))
        train()
        reader.start()
        while reader.is_alive():
            train()
        reader.join()
        train()

        assert_equal(found[0], expected)
        assert_equal(read(snapshot), expected)
        assert values_of(session, v1.global_variables())["global_step"] > expected["global_step"]
        snapshot.release()


def test_a_snapshot_keeps_the_values_of_its_step_while_many_run_in_one_call(open_session: OpenSession) -> None:
    shape = [20_000, 4]
    step = v1.train.create_global_step()
    dense, sparse, part = (
        v1.get_variable(name, shape, initializer=v1.zeros_initializer()) for name in ("dense", "sparse", "part")
    )
    rows = tf.IndexedSlices(-tf.ones(shape), tf.range(shape[0]), dense_shape=shape)
    with tf.control_dependencies(
        [
            v1.train.GradientDescentOptimizer(1.0).apply_gradients([(-tf.ones(shape), dense), (rows, sparse)]),
            part[:].assign(tf.fill(shape, tf.cast(step + 1, tf.float32))),
        ]
    ):
        reached = v1.assign_add(step, 1)
    saver = v1.train.Saver()
    session = open_session()
    snapshots = Snapshots(saver, session)
    fused = FusedSteps(session, train_op=reached, loss=tf.constant(0.5), step=tf.identity(reached))
    now = 0

    for _ in range(8):
        snapshot = snapshots.take(now)
        found: list[dict[str, Any]] = []
        reader = threading.Thread(target=lambda taken=snapshot, result=found: result.append(read(taken)))
        reader.start()
        before, now = now, fused.run(now, stride=1, due=now + 101, max_runs=100).step
        reader.join()

        assert now == before + 100
        for values in (*found, read(snapshot)):
            assert {name: np.unique(value).tolist() for name, value in values.items()} == {
                name: [before] for name in ("dense", "global_step", "part", "sparse")
            }
        snapshot.release()


def test_the_parts_of_a_partitioned_variable_are_slices_of_one_tensor(open_session: OpenSession) -> None:
    whole = v1.get_variable("whole", [5, 4], partitioner=v1.fixed_size_partitioner(2))
    one = v1.get_variable("one", [5, 4], partitioner=v1.fixed_size_partitioner(1))
    saver = v1.train.Saver()
    session = open_session()
    expected_whole, expected_one = session.run([tf.convert_to_tensor(whole), tf.convert_to_tensor(one)])

    snapshot = Snapshots(saver, session).take(0)

    (parent,) = snapshot.parents
    assert (parent.name, parent.dtype, parent.shape) == ("whole", "float32", (5, 4))
    assert [str(each) for each in parent.slices] == ["0,3:0,4", "3,2:0,4"]
    parts = read(snapshot)
    np.testing.assert_array_equal(parts.pop("one"), expected_one)
    np.testing.assert_array_equal(np.concatenate([parts[key] for key in sorted(parts)]), expected_whole)


def test_what_is_updated_in_place_is_written_by_tensorflow_at_once(open_session: OpenSession) -> None:
    reference = v1.get_variable("reference", initializer=np.arange(5.0), use_resource=False)
    v1.get_variable("resource", initializer=np.arange(3.0))
    parts = v1.get_variable("parts", [6], partitioner=v1.fixed_size_partitioner(2), use_resource=False)
    saver = v1.train.Saver(sharded=True)
    update = v1.assign_add(reference, [1.0] * 5)
    whole = tf.convert_to_tensor(parts)
    session = open_session()
    expected_parts = session.run(whole)

    snapshot = Snapshots(saver, session).take(0)
    session.run(update)

    assert_equal(read(snapshot), {"resource": np.arange(3.0)})
    (prefix,) = snapshot.bundles
    written = tf.train.load_checkpoint(prefix)
    assert sorted(written.get_variable_to_shape_map()) == ["parts", "reference"]
    np.testing.assert_array_equal(written.get_tensor("reference"), np.arange(5.0))
    np.testing.assert_array_equal(written.get_tensor("parts"), expected_parts)
    snapshot.release()
    assert not Path(f"{prefix}.index").exists()


def test_tables_and_strings_are_fetched(open_session: OpenSession) -> None:
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, default_value=-1)
    insert, more = table.insert(tf.constant(["a"]), [1]), table.insert(tf.constant(["b"]), [2])
    words = v1.get_variable("words", initializer=np.array([b"x", b"", b"\xff\0"], dtype=object), dtype=tf.string)
    v1.get_variable("word", initializer="one")
    change = words.assign(["y", "y", "y"])
    saver = v1.train.Saver()
    session = open_session()
    session.run(insert)

    snapshot = Snapshots(saver, session).take(0)
    session.run([more, change])

    values = read(snapshot)
    assert values.pop("words").tolist() == [b"x", b"", b"\xff\0"]
    assert values.pop("word").tolist() == b"one"
    assert sorted(map(str, (value.tolist() for value in values.values()))) == ["[1]", "[b'a']"]
    assert snapshot.bundles == []


def test_the_state_of_an_iterator_is_written_by_tensorflow(open_session: OpenSession) -> None:
    iterator = v1.data.make_one_shot_iterator(tf.data.Dataset.range(10).shuffle(10, seed=1))
    following = iterator.get_next()
    saveable = tf.data.experimental.make_saveable_from_iterator(iterator)
    variable = v1.get_variable("variable", [], initializer=v1.ones_initializer())
    saver = v1.train.Saver([saveable, variable])
    session = open_session()
    seen = [int(session.run(following)) for _ in range(4)]

    snapshot = Snapshots(saver, session).take(0)

    rest = [int(session.run(following)) for _ in range(6)]
    assert sorted(seen + rest) == list(range(10))
    assert list(read(snapshot)) == ["variable"]
    (prefix,) = snapshot.bundles
    assert tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    snapshot.release()


def test_a_saver_of_the_old_format_says_what_is_saved_too() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, initializer=np.arange(3.0)) for name in ("a", "b")]
        saver = v1.train.Saver(variables, write_version=v1.train.SaverDef.V1)
        session.run(v1.global_variables_initializer())

        snapshot = Snapshots(saver, session).take(0)

        assert_equal(read(snapshot), {"a": np.arange(3.0), "b": np.arange(3.0)})


def test_names_and_devices_are_those_of_the_saver(open_session: OpenSession) -> None:
    with tf.device("/cpu:0"):
        first = v1.get_variable("first", initializer=np.arange(3.0))
    with tf.device("/cpu:1"):
        second = v1.get_variable("second", initializer=np.arange(4.0))
    saver = v1.train.Saver({"a": first, "b/c": second}, sharded=True)

    snapshot = Snapshots(saver, open_session()).take(0)

    assert_equal(read(snapshot), {"a": np.arange(3.0), "b/c": np.arange(4.0)})


def test_the_objects_of_a_checkpoint_are_saved_in_its_own_format(open_session: OpenSession, tmp_path: Path) -> None:
    weight = tf.Variable(np.arange(3.0), name="weight")
    saver = as_saver(tf.train.Checkpoint(layer=tf.train.Checkpoint(weight=weight)))
    session = open_session()
    saver.save(session, str(tmp_path / "expected"))
    expected = tf.train.load_checkpoint(str(tmp_path / "expected"))

    values = read(Snapshots(saver, session).take(0))

    assert sorted(values) == sorted(expected.get_variable_to_shape_map())
    assert values["_CHECKPOINTABLE_OBJECT_GRAPH"].item() == expected.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    np.testing.assert_array_equal(values["layer/weight/.ATTRIBUTES/VARIABLE_VALUE"], np.arange(3.0))


def test_a_saver_with_a_way_of_its_own_saves_as_it_does(open_session: OpenSession) -> None:
    class Averaging(tf.compat.v1.train.Saver):
        """Saves other values than the variables have."""

        def save(self, sess: Any, *args: Any, **kwargs: Any) -> Any:
            sess.run(swap)
            return super().save(sess, *args, **kwargs)

    variable = v1.get_variable("variable", initializer=np.arange(3.0))
    swap = variable.assign([7.0, 8.0, 9.0])
    saver = Averaging()

    snapshot = Snapshots(saver, open_session()).take(12)

    (prefix,) = snapshot.bundles
    assert prefix.endswith("-12")
    assert tf.train.load_checkpoint(prefix).get_tensor("variable").tolist() == [7.0, 8.0, 9.0]
    assert snapshot.tensors == []
    snapshot.release()


def test_a_variable_without_a_value_fails_the_snapshot_only(open_session: OpenSession) -> None:
    v1.get_variable("ready", initializer=np.arange(3.0))
    session = open_session()
    late = v1.get_variable("late", initializer=np.arange(2.0))
    snapshots = Snapshots(v1.train.Saver(), session)

    with pytest.raises(tf.errors.FailedPreconditionError, match="late"):
        snapshots.take(0)
    session.run(late.initializer)

    assert_equal(read(snapshots.take(0)), {"ready": np.arange(3.0), "late": np.arange(2.0)})


def test_a_finalized_graph_stays_finalized(open_session: OpenSession) -> None:
    v1.get_variable("a", initializer=np.arange(3.0))
    v1.get_variable("b", initializer=np.arange(3.0), use_resource=False)
    saver = v1.train.Saver()
    session = open_session()
    session.graph.finalize()

    snapshot = Snapshots(saver, session).take(0)

    assert session.graph.finalized
    snapshot.release()


def test_nothing_is_added_to_a_graph_of_dense_variables_in_this_process() -> None:
    with tf.Graph().as_default() as graph, v1.Session() as session:
        build_training()
        saver = v1.train.Saver()
        session.run(v1.global_variables_initializer())
        before = graph.as_graph_def()

        Snapshots(saver, session).take(0)

        assert graph.as_graph_def() == before


def test_an_update_copies_a_variable_only_while_a_snapshot_holds_it() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("variable", initializer=np.zeros(100_000))
        update = v1.assign_add(variable, np.ones(100_000)).op
        saver = v1.train.Saver()
        session.run(v1.global_variables_initializer())
        snapshots = Snapshots(saver, session)
        session.run(update)

        def address() -> int:
            (tensor,) = (each := snapshots.take(0)).tensors
            found = np.frombuffer(each.read(tensor, 0, tensor.size_bytes)).ctypes.data
            each.release()
            return found

        before = address()
        session.run(update)
        free = address()
        snapshot = snapshots.take(0)
        session.run(update)
        held = address()
        snapshot.release()

        assert free == before
        assert held != before


def test_a_value_that_was_released_is_gone(open_session: OpenSession) -> None:
    v1.get_variable("variable", initializer=np.arange(3.0))
    snapshot = Snapshots(v1.train.Saver(), open_session()).take(0)
    (tensor,) = snapshot.tensors

    snapshot.release()
    snapshot.release()

    with pytest.raises(ValueError, match="released"):
        snapshot.read(tensor, 0, 8)
