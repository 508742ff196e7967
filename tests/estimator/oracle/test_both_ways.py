"""A training goes on in the real tf.estimator and here alike, whichever wrote the checkpoint: `pytest -m oracle`."""

import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from tests.estimator.oracle.checkpoint import assert_same, named_as_here, reset_slots
from tests.estimator.oracle.conftest import Oracle
from tests.estimator.oracle.models import MODELS
from tests.estimator.oracle.ours import ask

# The first test may have to install TensorFlow 2.15.
pytestmark = [pytest.mark.oracle, pytest.mark.timeout(1800)]

V1 = [name for name in MODELS if name.startswith("v1.")]
MOMENTUM = "v1.DNNClassifier.Momentum"
V2 = [name for name in MODELS if name not in V1]


def copied(model_dir: Path, name: str) -> Path:
    return Path(shutil.copytree(model_dir, model_dir.with_name(name)))


def assert_evaluates_alike(theirs: Oracle, name: str, model_dir: Path) -> None:
    assert ask("evaluate", model_dir, model=name) == pytest.approx(
        theirs("evaluate", model_dir, model=name), rel=1e-5, abs=1e-5
    )
    for ours, original in zip(
        ask("predict", model_dir, model=name), theirs("predict", model_dir, model=name), strict=True
    ):
        assert_same(ours, original)


@pytest.mark.parametrize("name", V2)
def test_theirs_goes_on_here(theirs: Oracle, tmp_path: Path, name: str) -> None:
    there = tmp_path / "there"
    theirs("train", there, model=name, steps=30)
    here = copied(there, "here")
    assert_evaluates_alike(theirs, name, there)

    theirs("train", there, model=name, steps=20)
    ask("train", here, model=name, steps=20)

    ours, original = ask("read", here)["values"], ask("read", there)["values"]
    assert ours.keys() == original.keys()
    assert_same(ours, original)
    assert_evaluates_alike(theirs, name, there)


@pytest.mark.parametrize("name", V2)
def test_ours_goes_on_there(theirs: Oracle, tmp_path: Path, name: str) -> None:
    here = tmp_path / "here"
    ask("train", here, model=name, steps=30)
    there = copied(here, "there")
    assert_evaluates_alike(theirs, name, here)

    ask("train", here, model=name, steps=20)
    theirs("train", there, model=name, steps=20)

    ours, original = ask("read", here)["values"], ask("read", there)["values"]
    assert ours.keys() == original.keys()
    assert_same(original, ours)


@pytest.mark.parametrize("name", V2)
def test_without_the_slots_it_would_go_elsewhere(theirs: Oracle, tmp_path: Path, name: str) -> None:
    there = tmp_path / "there"
    theirs("train", there, model=name, steps=30)
    here = copied(there, "here")
    reset_slots(here)

    theirs("train", there, model=name, steps=20)
    ask("train", here, model=name, steps=20)

    weights = {key: value for key, value in ask("read", there)["values"].items() if not is_slot(key)}
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(ask("read", here)["values"], weights)


def is_slot(name: str) -> bool:
    return name.endswith(("/accumulator", "/linear", "/m", "/v", "/Adam", "/Adam_1"))


@pytest.mark.parametrize("name", [name for name in V1 if name != MOMENTUM])
def test_a_v1_class_goes_on_here(theirs: Oracle, tmp_path: Path, name: str) -> None:
    there = tmp_path / "there"
    theirs("train", there, model=name, steps=30)
    here = copied(there, "here")
    assert_evaluates_alike(theirs, name, there)

    theirs("train", there, model=name, steps=20)
    ask("train", here, model=name, steps=20)

    assert_same(ask("read", here)["values"], named_as_here(ask("read", there)["values"]))


@pytest.mark.parametrize("name", V1)
def test_a_v1_class_goes_on_in_the_class_of_the_same_name_with_the_same_optimizer(
    theirs: Oracle, tmp_path: Path, name: str
) -> None:
    there = tmp_path / "there"
    theirs("train", there, model=name, steps=30)
    here = copied(there, "here")

    theirs("train", there, model=name, steps=20)
    ask("train", here, model=name, v1_classes=True, steps=20)

    ours, original = ask("read", here)["values"], ask("read", there)["values"]
    assert_same(named_as_here(ours), named_as_here(original))
    assert ask("evaluate", here, model=name, v1_classes=True) == pytest.approx(
        theirs("evaluate", there, model=name), rel=1e-4, abs=1e-5
    )


def test_the_momentum_of_v1_is_refused_where_it_would_mean_something_else(theirs: Oracle, tmp_path: Path) -> None:
    theirs("train", tmp_path, model=MOMENTUM, steps=3)

    with pytest.raises(tf.errors.NotFoundError, match="Key training/SGD/dnn/hiddenlayer_0/bias/momentum not found"):
        ask("train", tmp_path, model=MOMENTUM, steps=1)


def test_the_tools_of_the_original_read_our_model_dir(theirs: Oracle, tmp_path: Path) -> None:
    ask("train", tmp_path, model="DNNClassifier", steps=3)

    seen = theirs("read", tmp_path)

    assert seen["latest"] == f"{tmp_path}/model.ckpt-3"
    assert seen == ask("read", tmp_path)
