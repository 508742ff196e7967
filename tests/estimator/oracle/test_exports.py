"""Exports of the real tf.estimator and of ours answer alike, there and here: `pytest -m oracle`."""

from pathlib import Path
from typing import Any

import pytest

from tests.estimator.oracle.checkpoint import assert_same
from tests.estimator.oracle.conftest import Oracle
from tests.estimator.oracle.models import MODELS
from tests.estimator.oracle.ours import ask

# The first test may have to install TensorFlow 2.15.
pytestmark = [pytest.mark.oracle, pytest.mark.timeout(1800)]


def assert_answers_alike(answers: dict[str, Any], expected: dict[str, Any]) -> None:
    assert answers.keys() == expected.keys()
    for name, signature in expected.items():
        assert answers[name]["input"] == signature["input"]
        assert answers[name]["outputs"] == signature["outputs"]
        assert answers[name]["values"].keys() == signature["values"].keys()
        assert_same(answers[name]["values"], signature["values"])


@pytest.mark.parametrize("name", MODELS)
def test_one_checkpoint_is_exported_alike_and_served_by_both(theirs: Oracle, tmp_path: Path, name: str) -> None:
    model_dir = tmp_path / "model"
    theirs("train", model_dir, model=name, steps=10)

    here = Path(ask("export", model_dir, model=name, export_dir_base=str(tmp_path / "here")))
    there = Path(theirs("export", model_dir, model=name, export_dir_base=str(tmp_path / "there")))

    expected = theirs("serve", there)
    for answers in (ask("serve", here), theirs("serve", here), ask("serve", there)):
        assert_answers_alike(answers, expected)
