"""Checkpoints of the real tf.estimator, recorded by tests.estimator.oracle.record, go on here as they went on there."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tests.estimator.oracle.checkpoint import assert_same, named_as_here, reset_slots
from tests.estimator.oracle.models import MODELS, Model
from tests.estimator.oracle.ours import ask, with_v1_optimizer

FIXTURES = Path(__file__).parent.parent / "fixtures" / "tf215"
RECORDED = sorted(path.stem for path in FIXTURES.glob("*.json"))
STEPS = 20


def expected(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def checkpoints_in(model_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model_dir.glob("model.ckpt-*")}


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / name, tmp_path / "model"))


@pytest.mark.parametrize("name", RECORDED)
def test_a_checkpoint_evaluates_and_predicts_as_there(tmp_path: Path, name: str) -> None:
    model_dir = copied(name, tmp_path)

    metrics = ask("evaluate", model_dir, model=name)
    predictions = ask("predict", model_dir, model=name)

    assert metrics == pytest.approx(expected(name)["evaluate"], rel=1e-5, abs=1e-5)
    for ours, theirs in zip(predictions, expected(name)["predict"], strict=False):
        assert_same(ours, theirs)


@pytest.mark.parametrize("name", RECORDED)
def test_training_goes_on_as_there(tmp_path: Path, name: str) -> None:
    model_dir = copied(name, tmp_path)

    ask("train", model_dir, model=name, steps=STEPS)

    values = ask("read", model_dir)["values"]
    theirs = named_as_here(expected(name)["after"])
    assert_same(values, theirs)
    only_here = {key.rpartition("/")[2] for key in values.keys() - theirs.keys()}
    hyper_parameters = {"iter", "learning_rate", "learning_rate_power", "decay", "beta", "beta_1", "beta_2"}
    penalties = {"l1_regularization_strength", "l2_regularization_strength"}
    assert only_here <= (hyper_parameters | penalties if name.startswith("v1.") else set())


@pytest.mark.parametrize("name", RECORDED)
def test_without_the_slots_training_would_go_elsewhere(tmp_path: Path, name: str) -> None:
    model_dir = copied(name, tmp_path)
    reset_slots(model_dir)

    ask("train", model_dir, model=name, steps=STEPS)

    values, theirs = ask("read", model_dir)["values"], named_as_here(expected(name)["after"])
    weights = {key: value for key, value in theirs.items() if not key.startswith("training/")}
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(values, weights)


def test_an_optimizer_of_v1_goes_on_with_the_slots_of_v1(tmp_path: Path) -> None:
    name = "v1.DNNClassifier.Adam"
    model_dir = copied(name, tmp_path)

    ask("train", model_dir, model=with_v1_optimizer(name), steps=STEPS)

    values = ask("read", model_dir)["values"]
    assert_same(named_as_here(values), named_as_here(expected(name)["after"]))
    assert "dnn/logits/bias/Adam_1" in values
    (power,) = [value for key, value in values.items() if key.endswith("beta2_power")]
    assert power == pytest.approx(expected(name)["after"]["dnn/head/beta2_power"])


def test_the_v1_class_of_ours_goes_on_as_the_original(tmp_path: Path) -> None:
    name = "v1.LinearClassifier"
    model_dir = copied(name, tmp_path)

    ask("train", model_dir, model=name, v1_classes=True, steps=STEPS)

    assert_same(ask("read", model_dir)["values"], named_as_here(expected(name)["after"]))


def test_the_steps_of_an_optimizer_that_counts_them_are_those_of_v1(tmp_path: Path) -> None:
    name = "v1.DNNLinearCombinedClassifier"
    model_dir = copied(name, tmp_path)

    ask("train", model_dir, model=name, steps=STEPS)

    assert tf.train.load_variable(str(model_dir), "training/Ftrl/iter") == 30 + STEPS


def test_one_line_tells_that_names_were_mapped_and_the_next_checkpoint_has_ours(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    model_dir = copied("v1.DNNClassifier", tmp_path)

    ask("evaluate", model_dir, model="v1.DNNClassifier")
    ask("train", model_dir, model="v1.DNNClassifier", steps=1)
    ask("train", model_dir, model="v1.DNNClassifier", steps=1)

    warnings = [record.getMessage() for record in info_log.records if record.levelno >= logging.WARNING]
    assert [line for line in warnings if "checkpoint" in line or "tensors" in line] == [
        f"{model_dir}/model.ckpt-30 is one of tf.compat.v1.train optimizers, as of the v1 classes of tf.estimator: "
        "restoring 7 tensors from the names they have there. It has no value for: training/Adagrad/decay, "
        "training/Adagrad/learning_rate. The next checkpoint has the names of this model."
    ]
    assert f"Restoring parameters from {model_dir}/model.ckpt-30" in info_log.messages
    assert tf.train.load_variable(str(model_dir), "global_step") == 32


def test_slots_of_another_optimizer_are_missing_and_nothing_changes(tmp_path: Path) -> None:
    model_dir = copied("v1.DNNClassifier", tmp_path)
    before = checkpoints_in(model_dir)
    adam = MODELS["v1.DNNClassifier.Adam"]

    with pytest.raises(tf.errors.NotFoundError, match="Key training/Adam/dnn/hiddenlayer_0/bias/m not found") as error:
        ask("train", model_dir, model=adam, steps=1)

    assert "training/Adam/learning_rate" not in error.value.message
    assert "dnn/hiddenlayer_0/bias/t_0/Adagrad float32 [8]" in error.value.message
    assert checkpoints_in(model_dir) == before


def test_a_model_of_another_shape_is_refused_with_its_slots(tmp_path: Path) -> None:
    model_dir = copied("v1.DNNClassifier", tmp_path)
    model = MODELS["v1.DNNClassifier"]
    assert isinstance(model, Model)

    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        ask("train", model_dir, model=replace(model, hidden_units=(8, 5)), steps=1)

    assert (
        "tensor_name = training/Adagrad/dnn/logits/kernel/accumulator; shape in shape_and_slice spec [5,3] "
        "does not match the shape stored in checkpoint: [4,3]"
    ) in error.value.message
