"""Warm start: initial weights from another model's checkpoint, as recorded from the real library."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.data import columns, steps_of, train_input_fn

_v1 = tf.compat.v1

TRAINED = [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
FRESH = [7.0, 7.0]


def model_fn(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> tfe.EstimatorSpec:
    """An embedding of `rows` rows whose name and initial value the params tell, and a counter of steps."""
    shape = [params.get("rows", 3), 2]
    table = _v1.get_variable(params.get("name", "table"), shape, initializer=params["initializer"])
    bias = _v1.get_variable("bias", [], initializer=_v1.zeros_initializer())
    runs = _v1.get_variable("runs", [], initializer=_v1.zeros_initializer(), trainable=False)
    predictions = tf.reduce_sum(tf.nn.embedding_lookup(table, features["x"]), axis=1) + bias
    if mode == tfe.ModeKeys.PREDICT:
        return tfe.EstimatorSpec(mode, predictions=predictions)
    loss = tf.reduce_mean(tf.square(predictions - labels))
    optimizer = _v1.train.AdagradOptimizer(params.get("learning_rate", 0.0))
    train_op = tf.group(optimizer.minimize(loss, _v1.train.get_global_step()), runs.assign_add(1.0))
    return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op)


def input_fn() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(({"x": [0, 1]}, [2.0, 4.0])).repeat(2)


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model_dir at step 2, whose table has the rows 1, 2 and 3; not to be changed."""
    model_dir = tmp_path_factory.mktemp("previous")
    params = {"initializer": _v1.constant_initializer(TRAINED)}
    tfe.Estimator(model_fn, str(model_dir), params=params).train(input_fn, steps=2)
    return model_dir


class Initial(tf.compat.v1.train.SessionRunHook):
    """The values of all variables before the first step, by name."""

    def after_create_session(self, session: Any, coord: Any) -> None:
        self.values = session.run({variable.op.name: variable for variable in _v1.global_variables()})


def warm(model_dir: Path, warm_start_from: Any, **params: Any) -> tfe.Estimator:
    params = {"initializer": _v1.constant_initializer(FRESH[0]), **params}
    return tfe.Estimator(model_fn, str(model_dir), params=params, warm_start_from=warm_start_from)


def train(estimator: tfe.Estimator, hook: Initial) -> None:
    estimator.train(input_fn, hooks=[hook], steps=1)


def evaluate(estimator: tfe.Estimator, hook: Initial) -> None:
    estimator.evaluate(input_fn, hooks=[hook], steps=1)


def predict(estimator: tfe.Estimator, hook: Initial) -> None:
    next(estimator.predict(input_fn, hooks=[hook]))


def initial_values(estimator: tfe.Estimator, call: Callable[[tfe.Estimator, Initial], None] = train) -> dict[str, Any]:
    hook = Initial()
    call(estimator, hook)
    return hook.values


def words(path: Path, text: str) -> str:
    path.write_text("\n".join(text.split()) + "\n")
    return str(path)


@pytest.mark.parametrize("call", [train, evaluate, predict])
def test_trainable_variables_start_from_the_checkpoint_and_all_else_anew(
    tmp_path: Path, previous: Path, info_log: pytest.LogCaptureFixture, call: Callable[..., None]
) -> None:
    estimator = warm(tmp_path, str(previous))

    values = initial_values(estimator, call)

    assert values["table"].tolist() == TRAINED
    assert (values["global_step"], values["runs"]) == (0, 0.0)
    np.testing.assert_allclose(values.get("table/Adagrad", 0.1), 0.1)
    start = info_log.messages.index("Done calling model_fn.")
    assert info_log.messages[start + 1 : start + 5] == [
        f"Warm-starting with WarmStartSettings: WarmStartSettings(ckpt_to_initialize_from='{previous}', "
        "vars_to_warm_start='.*', var_name_to_vocab_info={}, var_name_to_prev_var_name={})",
        f"Warm-starting from: {previous}",
        "Warm-starting variables only in TRAINABLE_VARIABLES.",
        "Warm-started 2 variables.",
    ]


def test_a_warm_start_has_no_say_once_there_is_a_checkpoint(
    tmp_path: Path, previous: Path, info_log: pytest.LogCaptureFixture
) -> None:
    warm(tmp_path, None).train(input_fn, steps=1)

    values = initial_values(warm(tmp_path, str(previous)))

    assert values["table"][0].tolist() == FRESH
    assert values["global_step"] == 1
    assert not [message for message in info_log.messages if "Warm-start" in message]


@pytest.mark.parametrize(
    ("vars_to_warm_start", "warmed"),
    [
        ("table", {"table"}),
        ("nothing", set()),
        (None, set()),
        ([], set()),
        (["runs", "table/"], {"runs", "table/Adagrad"}),
        ([".*"], {"table", "table/Adagrad", "bias", "bias/Adagrad", "runs", "global_step"}),
    ],
)
def test_the_settings_tell_which_variables_start_from_the_checkpoint(
    tmp_path: Path, previous: Path, info_log: pytest.LogCaptureFixture, vars_to_warm_start: Any, warmed: set[str]
) -> None:
    values = initial_values(warm(tmp_path, tfe.WarmStartSettings(str(previous), vars_to_warm_start)))

    assert f"Warm-started {len(warmed)} variables." in info_log.messages
    assert (values["table"].tolist() == TRAINED) == ("table" in warmed)
    assert values["runs"] == (2.0 if "runs" in warmed else 0.0)
    assert values["global_step"] == (2 if "global_step" in warmed else 0)


def test_a_variable_may_have_had_another_name(tmp_path: Path, previous: Path) -> None:
    settings = tfe.WarmStartSettings(f"{previous}/model.ckpt-2", var_name_to_prev_var_name={"renamed": "table"})

    assert initial_values(warm(tmp_path, settings, name="renamed"))["renamed"].tolist() == TRAINED


def test_rows_follow_their_words_into_another_vocabulary(tmp_path: Path, previous: Path) -> None:
    vocab_info = tfe.VocabInfo(
        new_vocab=words(tmp_path / "new", "d b a"),
        new_vocab_size=3,
        num_oov_buckets=1,
        old_vocab=words(tmp_path / "old", "a b c"),
        backup_initializer=_v1.zeros_initializer(),
    )
    settings = tfe.WarmStartSettings(str(previous), None, {"table": vocab_info})

    values = initial_values(warm(tmp_path / "model", settings, rows=4))

    assert values["table"].tolist() == [[0.0, 0.0], [2.0, 2.0], [1.0, 1.0], [0.0, 0.0]]


def test_a_saved_model_is_a_start_too(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    with tf.Graph().as_default(), _v1.Session() as session:
        for name, value in (("table", TRAINED), ("bias", 5.0)):
            _v1.get_variable(name, initializer=tf.constant(value))
        session.run(_v1.global_variables_initializer())
        builder = _v1.saved_model.Builder(str(tmp_path / "saved"))
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()

    values = initial_values(warm(tmp_path / "model", str(tmp_path / "saved")))

    assert (values["table"].tolist(), values["bias"]) == (TRAINED, 5.0)
    assert "Warm-starting from a SavedModel" in info_log.messages
    assert f"Warm-starting from: {tmp_path}/saved/variables/variables" in info_log.messages


@pytest.mark.parametrize(
    ("arguments", "params", "message"),
    [
        (
            {},
            {"rows": 4},
            "Shape of variable table:0 ((4, 2)) doesn't match with shape of tensor table ([3, 2]) from checkpoint "
            "reader.",
        ),
        (
            {"var_name_to_prev_var_name": {"zz": "table"}},
            {},
            "You provided the following variables in var_name_to_prev_var_name that were not used: {'zz'}.",
        ),
        ({}, {"name": "renamed"}, "Tensor renamed is not found in "),
        ({"vars_to_warm_start": 3}, {}, "`vars_to_warm_start must be a `list` or `str`.  Given type is <class 'int'>"),
    ],
)
def test_settings_that_do_not_fit_are_an_error_that_leaves_nothing_behind(
    tmp_path: Path, previous: Path, arguments: dict[str, Any], params: dict[str, Any], message: str
) -> None:
    model_dir = tmp_path / "model"
    settings = tfe.WarmStartSettings(str(previous), **arguments)

    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        warm(model_dir, settings, **params).train(input_fn)

    assert not model_dir.exists()


def test_a_checkpoint_that_is_not_there_is_an_error_that_leaves_nothing_behind(tmp_path: Path) -> None:
    message = "Unsuccessful TensorSliceReader constructor: Failed to find any matching files for /nonexistent/x"

    with pytest.raises(tf.errors.NotFoundError) as caught:
        warm(tmp_path / "model", "/nonexistent/x").train(input_fn)

    assert caught.value.message == message
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("warm_start_from", "message"),
    [
        (3, "warm_start_from must be a string or a WarmStartSettings, instead got <class 'int'>"),
        ("", "`ckpt_to_initialize_from` MUST be set in WarmStartSettings"),
    ],
)
def test_a_start_from_something_else_is_refused_at_once(tmp_path: Path, warm_start_from: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        warm(tmp_path, warm_start_from)


def test_variables_are_read_by_name_from_the_latest_checkpoint(previous: Path) -> None:
    estimator = warm(previous, None)

    assert steps_of(previous) == [1, 2]
    assert estimator.get_variable_names() == ["bias", "bias/Adagrad", "global_step", "runs", "table", "table/Adagrad"]
    assert estimator.get_variable_value("global_step") == 2
    assert estimator.get_variable_value("table").tolist() == TRAINED
    with pytest.raises(tf.errors.NotFoundError, match=r"^Key zz not found in checkpoint$"):
        estimator.get_variable_value("zz")


def test_without_a_checkpoint_there_are_no_variables_to_read(tmp_path: Path) -> None:
    estimator = warm(tmp_path / "none", None)
    message = f"^{re.escape(f'Could not find trained model in model_dir: {tmp_path}/none.')}$"

    with pytest.raises(ValueError, match=message):
        estimator.get_variable_names()
    with pytest.raises(ValueError, match=message):
        estimator.get_variable_value("table")


def iris_classifier(model_dir: Path, *, units: int = 10, warm_start_from: Any = None) -> tfe.DNNClassifier:
    return tfe.DNNClassifier([units, units], columns(), str(model_dir), 3, warm_start_from=warm_start_from)


def test_a_dnn_classifier_starts_as_recorded(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    previous = tmp_path / "previous"
    iris_classifier(previous).train(train_input_fn, steps=1)
    settings = tfe.WarmStartSettings(str(previous), vars_to_warm_start=".*hiddenlayer_0.*")

    iris_classifier(tmp_path / "all", warm_start_from=str(previous)).train(train_input_fn, steps=1)
    iris_classifier(tmp_path / "some", warm_start_from=settings).train(train_input_fn, steps=1)
    with pytest.raises(ValueError, match="from checkpoint reader") as caught:
        iris_classifier(tmp_path / "wide", units=20, warm_start_from=str(previous)).train(train_input_fn)

    warmed = [message for message in info_log.messages if message.startswith("Warm-started")]
    assert warmed == ["Warm-started 6 variables.", "Warm-started 2 variables."]
    assert str(caught.value) == (
        "Shape of variable dnn/hiddenlayer_0/bias:0 ((20,)) doesn't match with shape of tensor dnn/hiddenlayer_0/bias "
        "([10]) from checkpoint reader."
    )
