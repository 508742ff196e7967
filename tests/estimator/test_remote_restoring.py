"""Evaluation, prediction, export and warm start from a model_dir that TensorFlow cannot open."""

import re
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.errors import CheckpointDamagedError, CheckpointPathError
from runner.storage.urls import open_directory
from tests.estimator.data import columns, eval_input_fn, train_input_fn
from tests.estimator.remote import upload

_v1 = tf.compat.v1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local model_dir with checkpoints of steps 1 and 20; not to be changed."""
    model_dir = tmp_path_factory.mktemp("trained")
    classifier(str(model_dir)).train(train_input_fn, steps=20)
    return model_dir


def classifier(model_dir: str, **options: Any) -> tfe.DNNClassifier:
    config = tfe.RunConfig(tf_random_seed=7)
    return tfe.DNNClassifier([10, 10], columns(), model_dir, n_classes=3, config=config, **options)


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest, trained: Path) -> str:
    """A remote model_dir with the same checkpoints."""
    new_url = request.getfixturevalue("s3_url") if request.param == "s3" else f"memory://{secrets.token_hex(6)}/model"
    return upload(trained, new_url)


def test_a_remote_model_dir_evaluates_and_predicts_as_a_local_one(
    trained: Path, url: str, info_log: pytest.LogCaptureFixture
) -> None:
    remote, local = classifier(url), classifier(str(trained))

    metrics = remote.evaluate(eval_input_fn)
    predictions = [each["logits"].tolist() for each in remote.predict(eval_input_fn)]

    assert remote.model_dir == url
    assert metrics == local.evaluate(eval_input_fn)
    assert predictions == [each["logits"].tolist() for each in local.predict(eval_input_fn)]
    assert f"Restoring parameters from {url}/model.ckpt-20" in info_log.messages


def test_a_remote_prefix_is_a_checkpoint_path(url: str, tmp_path: Path) -> None:
    elsewhere = classifier(str(tmp_path))

    assert elsewhere.evaluate(eval_input_fn, checkpoint_path=f"{url}/model.ckpt-1")["global_step"] == 1
    with pytest.raises(CheckpointPathError, match=re.escape(f"not a valid checkpoint: {url}/model.ckpt-2")):
        elsewhere.evaluate(eval_input_fn, checkpoint_path=f"{url}/model.ckpt-2")


def test_variables_of_a_remote_checkpoint_have_names_and_values(trained: Path, url: str) -> None:
    remote = classifier(url)

    assert remote.latest_checkpoint() == f"{url}/model.ckpt-20"
    assert remote.get_variable_names() == [name for name, _ in tf.train.list_variables(str(trained))]
    for name in ("global_step", "training/Adagrad/learning_rate", "dnn/logits/kernel"):
        expected = tf.train.load_variable(str(trained), name)
        value = remote.get_variable_value(name)
        assert (type(value), value.dtype) == (type(expected), expected.dtype)
        np.testing.assert_array_equal(value, expected)
    with pytest.raises(tf.errors.NotFoundError, match="Key nope not found in checkpoint"):
        remote.get_variable_value("nope")


def serving_input_fn() -> Any:
    features = {column.key: _v1.placeholder(tf.float32, [None]) for column in columns()}
    return tfe.export.ServingInputReceiver(features, features)


def test_a_remote_checkpoint_is_exported(trained: Path, url: str, tmp_path: Path) -> None:
    exported = classifier(url).export_saved_model(str(tmp_path), serving_input_fn)

    served = tf.saved_model.load(exported.decode()).signatures["predict"]
    ones = {column.key: tf.constant([1.0]) for column in columns()}
    expected = classifier(str(trained)).predict(
        lambda: tf.data.Dataset.from_tensors({column.key: [1.0] for column in columns()})
    )
    np.testing.assert_allclose(served(**ones)["logits"][0], next(expected)["logits"], rtol=1e-6)


def of_a_prefix(url: str) -> str:
    return f"{url}/model.ckpt-20"


def of_a_model_dir(url: str) -> str:
    return url


def of_settings(url: str) -> tfe.WarmStartSettings:
    return tfe.WarmStartSettings(url, vars_to_warm_start=".*hiddenlayer_0.*")


@pytest.mark.parametrize("source", [of_a_prefix, of_a_model_dir, of_settings])
def test_a_remote_checkpoint_warms_up_another_model(
    trained: Path, url: str, tmp_path: Path, source: Callable[[str], Any]
) -> None:
    initial: dict[str, Any] = {}

    class Initial(tf.compat.v1.train.SessionRunHook):
        def after_create_session(self, session: Any, coord: Any) -> None:
            initial.update(session.run({variable.op.name: variable for variable in _v1.global_variables()}))

    classifier(str(tmp_path), warm_start_from=source(url)).train(train_input_fn, hooks=[Initial()], steps=1)

    kernel = "dnn/hiddenlayer_0/kernel"
    np.testing.assert_array_equal(initial[kernel], tf.train.load_variable(str(trained), kernel))
    assert initial["global_step"] == 0


def train(estimator: Any, hook: Any) -> None:
    estimator.train(train_input_fn, hooks=[hook], steps=1)


def evaluate(estimator: Any, hook: Any) -> None:
    estimator.evaluate(eval_input_fn, hooks=[hook])


def predict(estimator: Any, hook: Any) -> None:
    next(estimator.predict(eval_input_fn, hooks=[hook]))


@pytest.mark.parametrize("call", [train, evaluate, predict])
def test_a_warm_start_leaves_nothing_on_the_local_disk(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., None]
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    url = upload(trained, f"memory://{secrets.token_hex(6)}/model")
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    made: list[Path] = []

    class Looking(tf.compat.v1.train.SessionRunHook):
        def begin(self) -> None:
            made.extend(scratch.iterdir())

    call(classifier(str(tmp_path / "model"), warm_start_from=url), Looking())

    assert len(made) == 1
    assert list(scratch.iterdir()) == []


def test_a_warm_start_from_a_url_without_a_checkpoint_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointPathError, match=f"Couldn't find 'checkpoint' file .* {url}-none"):
        classifier(str(tmp_path), warm_start_from=f"{url}-none").train(train_input_fn, steps=1)


def test_a_damaged_remote_checkpoint_is_not_warm_started_from(url: str, tmp_path: Path) -> None:
    directory, name = open_directory(url), "model.ckpt-20.data-00000-of-00001"
    data = bytearray(directory.read_bytes(name))
    data[len(data) // 2] ^= 1
    directory.write_bytes(name, bytes(data))

    with pytest.raises(CheckpointDamagedError, match=r"model\.ckpt-20"):
        classifier(str(tmp_path), warm_start_from=url).train(train_input_fn, steps=1)
