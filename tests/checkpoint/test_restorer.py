"""Sessions restored from a checkpoint that TensorFlow wrote, wherever it lies."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner.checkpoint.restoring import Restorer
from runner.storage.urls import open_directory
from tests.estimator.remote import upload

_v1 = tf.compat.v1


def build_parts() -> tuple[Any, Any]:
    _v1.get_variable(
        "parts", [5, 2], initializer=_v1.random_normal_initializer(), partitioner=_v1.fixed_size_partitioner(2)
    )
    return _v1.train.Saver(), _v1.global_variables()


def build_table() -> tuple[Any, Any]:
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1, name="table")
    _v1.add_to_collection(_v1.GraphKeys.INIT_OP, table.insert(["a", "b"], [5, 6]))
    return _v1.train.Saver(), [table.lookup(tf.constant(["b", "c", "a"]))]


def build_iterator() -> tuple[Any, Any]:
    iterator = _v1.data.make_one_shot_iterator(tf.data.Dataset.range(3, 9))
    _v1.get_variable("weight", initializer=1.5)
    saver = _v1.train.Saver([*_v1.global_variables(), tf.data.experimental.make_saveable_from_iterator(iterator)])
    return saver, [iterator.get_next(), *_v1.global_variables()]


def build_own_class() -> tuple[Any, Any]:
    class Doubling(tf.compat.v1.train.Saver):
        def restore(self, session: Any, save_path: str) -> None:
            super().restore(session, save_path)
            session.run(doubled)

    weight = _v1.get_variable("weight", initializer=1.5)
    doubled = weight.assign_add(weight)
    return Doubling(), [weight]


@pytest.mark.parametrize("is_remote", [False, True], ids=["local", "memory"])
@pytest.mark.parametrize(
    ("build", "ratio"), [(build_parts, 1), (build_table, 1), (build_iterator, 1), (build_own_class, 2)]
)
@pytest.mark.filterwarnings("ignore:.*make_saveable_from_iterator")
def test_a_session_has_the_state_of_the_one_that_was_saved(
    tmp_path: Path, *, build: Callable[[], tuple[Any, Any]], ratio: int, is_remote: bool
) -> None:
    with tf.Graph().as_default():
        saver, state = build()
        saver.build()
        with _v1.Session() as session:
            session.run([_v1.global_variables_initializer(), _v1.get_collection(_v1.GraphKeys.INIT_OP)])
            session.run(state)  # so that an iterator is not where it begins
            saver.save(session, str(tmp_path / "model.ckpt"), global_step=7)
            saved = session.run(state)
        url = upload(tmp_path, f"memory://{secrets.token_hex(6)}/model") if is_remote else str(tmp_path)
        restorer = Restorer(saver)
        loaded = restorer.load(f"{url}/model.ckpt-7", training=True)

        with _v1.Session() as session:
            restorer.assign(session, loaded)
            restored = session.run(state)

    assert [each.tolist() for each in restored] == [(ratio * each).tolist() for each in saved]


def test_variables_with_one_source_do_not_share_its_memory(tmp_path: Path) -> None:
    """`iter` of an optimizer comes from global_step, where a checkpoint of the v1 classes has only that."""
    with tf.Graph().as_default(), _v1.Session() as session:
        step = _v1.get_variable("global_step", initializer=tf.constant(41, tf.int64))
        session.run(step.initializer)
        _v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    with tf.Graph().as_default():
        step = _v1.get_variable("global_step", initializer=tf.constant(0, tf.int64))
        iterations = _v1.get_variable("training/Ftrl/iter", initializer=tf.constant(0, tf.int64))
        rate = _v1.get_variable("training/Ftrl/learning_rate", initializer=0.25)
        saver = _v1.train.Saver()
        saver.build()
        update = step.assign_add(1)
        restorer = Restorer(saver)
        with _v1.Session() as session:
            restorer.assign(session, restorer.load(f"{tmp_path}/model.ckpt", training=True))
            session.run(update)
            values = session.run([step, iterations, rate])

    assert values == [42, 41, 0.25]


def test_a_checkpoint_is_read_but_once(tmp_path: Path) -> None:
    with tf.Graph().as_default():
        weight = _v1.get_variable("weight", initializer=[1.0, 2.0])
        saver = _v1.train.Saver()
        saver.build()
        with _v1.Session() as session:
            session.run(weight.initializer)
            saver.save(session, str(tmp_path / "model.ckpt"))
        restorer = Restorer(saver)
        loaded = restorer.load(f"{tmp_path}/model.ckpt", training=True)
        for entry in open_directory(str(tmp_path)).list():
            (tmp_path / entry.name).unlink()

        with _v1.Session() as session:
            restorer.assign(session, loaded)
            restored = session.run(weight)

    assert restored.tolist() == [1.0, 2.0]
    assert loaded.arrays == {}
