"""A damaged checkpoint: the chief goes on from the one before, and everybody else says what is wrong."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.checkpoint.saver import Checkpoints
from runner.errors import CheckpointDamagedError, CheckpointError
from runner.storage.directory import Directory
from runner.storage.urls import open_directory
from tests.estimator.data import linear_input_fn, linear_model_fn

INDEX, DATA = "model.ckpt-4.index", "model.ckpt-4.data-00000-of-00001"


def linear(model_dir: str) -> tfe.Estimator:
    return tfe.Estimator(linear_model_fn, model_dir, tfe.RunConfig(save_checkpoints_steps=2), params={})


@pytest.fixture
def model_dir(tmp_path: Path) -> str:
    """A model_dir with checkpoints of steps 1, 2 and 4."""
    linear(str(tmp_path)).train(linear_input_fn, steps=4)
    return str(tmp_path)


def flip(directory: Directory, name: str, position: int) -> None:
    data = bytearray(directory.read_bytes(name))
    data[position] ^= 0x10
    directory.write_bytes(name, bytes(data))


def flip_in_data(directory: Directory) -> None:
    flip(directory, DATA, 9)


def flip_in_index(directory: Directory) -> None:
    flip(directory, INDEX, 20)


def truncate(directory: Directory) -> None:
    directory.write_bytes(DATA, directory.read_bytes(DATA)[:-1])


def lose_shard(directory: Directory) -> None:
    directory.delete(DATA)


def lose_index(directory: Directory) -> None:
    directory.delete(INDEX)


DAMAGES = [flip_in_data, flip_in_index, truncate, lose_shard, lose_index]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_chief_goes_on_from_the_previous_checkpoint(
    model_dir: str, caplog: pytest.LogCaptureFixture, damage: Callable[[Directory], None]
) -> None:
    directory = open_directory(model_dir)
    damage(directory)
    left = {entry.name: directory.read_bytes(entry.name) for entry in directory.list() if "ckpt-4" in entry.name}

    linear(model_dir).train(linear_input_fn, steps=1)

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(f"{model_dir}/model.ckpt-4 cannot be restored, and is set aside" in warning for warning in warnings)
    assert linear(model_dir).latest_checkpoint() == f"{model_dir}/model.ckpt-3"
    assert "model.ckpt-4" not in directory.read_bytes("checkpoint").decode()
    assert {name: directory.read_bytes(name) for name in left} == left


def test_the_step_of_a_checkpoint_that_was_set_aside_is_saved_again(model_dir: str) -> None:
    directory = open_directory(model_dir)
    flip_in_data(directory)

    linear(model_dir).train(linear_input_fn, max_steps=6)

    estimator = linear(model_dir)
    assert estimator.evaluate(linear_input_fn, checkpoint_path=f"{model_dir}/model.ckpt-4")["global_step"] == 4
    assert estimator.evaluate(linear_input_fn)["global_step"] == 6


@pytest.mark.parametrize("damage", [flip_in_data, lose_shard, lose_index])
def test_train_and_evaluate_goes_on_from_the_previous_checkpoint(
    model_dir: str, damage: Callable[[Directory], None]
) -> None:
    damage(open_directory(model_dir))
    train_spec = tfe.TrainSpec(lambda: linear_input_fn().repeat(), max_steps=6)

    result = tfe.train_and_evaluate(linear(model_dir), train_spec, tfe.EvalSpec(linear_input_fn, throttle_secs=0))

    assert result is not None
    metrics, _ = result
    assert metrics is not None
    assert metrics["global_step"] == 6


def evaluate(estimator: Any, **options: Any) -> None:
    estimator.evaluate(linear_input_fn, **options)


def predict(estimator: Any, **options: Any) -> None:
    next(estimator.predict(linear_input_fn, **options))


def value(estimator: Any) -> None:
    estimator.get_variable_value("weight")


@pytest.mark.parametrize("call", [evaluate, predict, value])
def test_nobody_else_falls_back(model_dir: str, call: Callable[[Any], None]) -> None:
    flip_in_data(open_directory(model_dir))

    with pytest.raises(CheckpointDamagedError, match=r"model\.ckpt-4\.data-00000-of-00001.*weight"):
        call(linear(model_dir))


def test_a_checkpoint_that_is_asked_for_by_name_has_no_substitute(model_dir: str) -> None:
    flip_in_data(open_directory(model_dir))

    with pytest.raises(CheckpointDamagedError, match=r"model\.ckpt-4"):
        evaluate(linear(model_dir), checkpoint_path=f"{model_dir}/model.ckpt-4")


def test_if_no_checkpoint_is_whole_nothing_is_trained(model_dir: str) -> None:
    directory = open_directory(model_dir)
    for name in [entry.name for entry in directory.list() if ".data-" in entry.name]:
        flip(directory, name, 0)
    before = {entry.name: entry.tag for entry in directory.list() if "ckpt" in entry.name}

    with pytest.raises(CheckpointError, match=r"No checkpoint in .* can be restored: .*ckpt-4.*ckpt-2.*ckpt-1"):
        linear(model_dir).train(linear_input_fn, steps=1)

    assert {entry.name: entry.tag for entry in directory.list() if "ckpt" in entry.name} == before


def test_a_flipped_byte_is_found_wherever_it_is(model_dir: str) -> None:
    directory = open_directory(model_dir)
    passed_over = {}
    with tf.Graph().as_default():
        tf.compat.v1.train.create_global_step()
        tf.compat.v1.get_variable("weight", [])
        saver = tf.compat.v1.train.Saver()
        saver.build()
        checkpoints = Checkpoints(model_dir, saver)
        for name, every in ((INDEX, 3), (DATA, 1)):
            for position in range(0, len(directory.read_bytes(name)), every):
                flip(directory, name, position)
                loaded = checkpoints.load_latest()
                passed_over[name, position] = loaded is not None and loaded.prefix == f"{model_dir}/model.ckpt-2"
                flip(directory, name, position)
        whole = checkpoints.load_latest()

    assert [place for place, is_found in passed_over.items() if not is_found] == []
    assert whole is not None
    assert whole.prefix == f"{model_dir}/model.ckpt-4"
