"""Warm start: initial weights from another model's checkpoint."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.data import classifier, train_input_fn

KERNEL = "dnn/hiddenlayer_0/kernel"
SLOT = f"training/Adagrad/{KERNEL}/accumulator"


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model_dir of a DNNClassifier [10, 10] at step 3; not to be changed."""
    model_dir = tmp_path_factory.mktemp("previous")
    classifier(model_dir).train(train_input_fn, steps=3)
    return model_dir


def warm(model_dir: Path, warm_start_from: Any, *, hidden_units: tuple[int, ...] = (10, 10)) -> tfe.Estimator:
    model_fn = classifier(model_dir, hidden_units=hidden_units).model_fn
    config = tfe.RunConfig(tf_random_seed=8)
    return tfe.Estimator(model_fn, str(model_dir), config, warm_start_from=warm_start_from)


class Initial(tf.compat.v1.train.SessionRunHook):
    """The values of all variables before the first step, by name."""

    def after_create_session(self, session: Any, coord: Any) -> None:
        variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
        self.values = session.run(variables)


def initial_values(estimator: tfe.Estimator) -> dict[str, Any]:
    hook = Initial()
    estimator.train(train_input_fn, hooks=[hook], steps=1)
    return hook.values


def test_trainable_variables_start_from_the_checkpoint_and_all_else_anew(
    tmp_path: Path, previous: Path, info_log: pytest.LogCaptureFixture
) -> None:
    estimator = warm(tmp_path, str(previous))
    info_log.clear()

    values = initial_values(estimator)

    assert values["global_step"] == 0
    np.testing.assert_array_equal(values[KERNEL], tf.train.load_variable(str(previous), KERNEL))
    np.testing.assert_allclose(values[SLOT], 0.1)
    assert info_log.messages[3:8] == [
        "Done calling model_fn.",
        f"Warm-starting with WarmStartSettings: WarmStartSettings(ckpt_to_initialize_from='{previous}', "
        "vars_to_warm_start='.*', var_name_to_vocab_info={}, var_name_to_prev_var_name={})",
        f"Warm-starting from: {previous}",
        "Warm-starting variables only in TRAINABLE_VARIABLES.",
        "Warm-started 6 variables.",
    ]


def test_variables_are_read_by_name_from_the_latest_checkpoint(tmp_path: Path, previous: Path) -> None:
    estimator = classifier(previous)

    assert {KERNEL, SLOT, "global_step"} < set(estimator.get_variable_names())
    assert estimator.get_variable_value("global_step") == 3
    assert estimator.get_variable_value(KERNEL).shape == (4, 10)
    with pytest.raises(tf.errors.NotFoundError, match=r"^Key zz not found in checkpoint$"):
        estimator.get_variable_value("zz")


def test_without_a_checkpoint_there_are_no_variables_to_read(tmp_path: Path) -> None:
    estimator = classifier(tmp_path / "none")
    message = f"^{re.escape(f'Could not find trained model in model_dir: {tmp_path}/none.')}$"

    with pytest.raises(ValueError, match=message):
        estimator.get_variable_names()
    with pytest.raises(ValueError, match=message):
        estimator.get_variable_value(KERNEL)
