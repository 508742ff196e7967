"""Training, and evaluation beside it, on a model_dir that TensorFlow cannot open."""

import secrets
from typing import Any

import pytest

from runner import estimator as tfe
from runner.checkpoint.listing import list_checkpoints
from runner.estimator.continuous_evaluation import ContinuousEvaluation
from runner.storage.urls import open_directory
from tests.estimator.data import linear_input_fn, linear_model_fn
from tests.estimator.exporting import RecordingExporter


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    """A remote model_dir that nobody has used."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3_url"))
    return f"memory://{secrets.token_hex(6)}/model"


def linear(model_dir: str, **config: Any) -> tfe.Estimator:
    return tfe.Estimator(
        linear_model_fn, model_dir, tfe.RunConfig(**{"save_checkpoints_steps": 2, **config}), params={}
    )


def endless_input_fn() -> Any:
    return linear_input_fn().repeat()


def test_a_training_goes_on_where_the_last_one_ended(url: str, tmp_path: Any) -> None:
    for model_dir in (url, str(tmp_path)):
        linear(model_dir).train(endless_input_fn, steps=3)
        linear(model_dir).train(endless_input_fn, max_steps=5)

    assert linear(url).get_variable_value("weight") == linear(str(tmp_path)).get_variable_value("weight")
    assert [info.step for info in list_checkpoints(url)] == [info.step for info in list_checkpoints(str(tmp_path))]
    assert linear(url).latest_checkpoint() == f"{url}/model.ckpt-5"
    assert linear(url).evaluate(linear_input_fn)["global_step"] == 5


def test_a_relative_path_stays_relative(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    estimator = linear("model").train(endless_input_fn, steps=2)

    assert estimator.model_dir == "model"
    assert estimator.latest_checkpoint() == "model/model.ckpt-2"
    assert estimator.evaluate(linear_input_fn, checkpoint_path="model/model.ckpt-1")["global_step"] == 1


def test_a_damaged_checkpoint_in_a_store_is_set_aside(url: str, caplog: pytest.LogCaptureFixture) -> None:
    linear(url).train(endless_input_fn, steps=4)
    directory, name = open_directory(url), "model.ckpt-4.data-00000-of-00001"
    data = bytearray(directory.read_bytes(name))
    data[9] ^= 1
    directory.write_bytes(name, bytes(data))

    linear(url).train(endless_input_fn, max_steps=6)

    assert f"{url}/model.ckpt-4 cannot be restored, and is set aside" in caplog.text
    assert [info.step for info in list_checkpoints(url)] == [1, 2, 3, 4, 6]
    assert linear(url).evaluate(linear_input_fn, checkpoint_path=f"{url}/model.ckpt-4")["global_step"] == 4


def test_train_and_evaluate_evaluates_what_it_saves(url: str) -> None:
    train_spec = tfe.TrainSpec(endless_input_fn, max_steps=4)
    eval_spec = tfe.EvalSpec(linear_input_fn, steps=1, start_delay_secs=0, throttle_secs=0)

    result = tfe.train_and_evaluate(linear(url), train_spec, eval_spec)

    assert result is not None
    metrics, _ = result
    assert metrics is not None
    assert metrics["global_step"] == 4


def test_an_evaluator_follows_the_checkpoints_of_a_store(url: str) -> None:
    until = iter([2, 4])
    exporter = RecordingExporter("recording")

    def train_on(_: float) -> None:
        linear(url).train(endless_input_fn, max_steps=next(until))

    ContinuousEvaluation(
        linear(url),
        tfe.TrainSpec(endless_input_fn, max_steps=4),
        tfe.EvalSpec(linear_input_fn, steps=1, start_delay_secs=0, throttle_secs=0, exporters=[exporter]),
        sleep=train_on,
    ).run()

    assert [(call["step"], call["is_final"]) for call in exporter.calls] == [(2, False), (4, True)]
