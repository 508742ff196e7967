"""Trainings of canned estimators end with the numbers that the real ones ended with."""

import json
from pathlib import Path

import numpy as np
import pytest
import tf_keras

from runner import estimator as tfe
from tests.estimator.canned_trainings import TRAININGS, run

RECORDED = json.loads((Path(__file__).parent.parent / "fixtures" / "canned_trainings.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_from_given_weights_ends_where_the_original_ends(tmp_path: Path, name: str) -> None:
    expected = RECORDED[name]

    actual = run(name, tfe=tfe, optimizers=tf_keras.optimizers.legacy, directory=str(tmp_path))

    for part in ("variables", "metrics"):
        assert actual[part].keys() == expected[part].keys()
        for key, value in expected[part].items():
            np.testing.assert_allclose(actual[part][key], value, rtol=1e-4, atol=1e-6, err_msg=f"{part} {key}")
