"""The life of an Estimator whose model_dir TensorFlow cannot open."""

import uuid
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator.hooks.input_checkpoint import CheckpointInputPipelineHook
from runner.storage.directory import Directory
from runner.storage.urls import open_directory
from tests.estimator.data import linear_input_fn, linear_model_fn
from tests.estimator.events import events_in, scalars_in

receiver_fn = tfe.export.build_raw_serving_input_receiver_fn({"x": np.array([1.0, 2.0], np.float32)})


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """A model_dir that nobody has used: in memory, unless a test is also run on S3."""
    return request.getfixturevalue("s3_url") if getattr(request, "param", None) else f"memory://{uuid.uuid4()}/model"


@pytest.fixture
def directory(url: str) -> Directory:
    return open_directory(url)


def estimator_of(url: str, **config: Any) -> tfe.Estimator:
    config = {"save_checkpoints_steps": 5, **config}
    return tfe.Estimator(linear_model_fn, url, config=tfe.RunConfig(**config), params={})


def names_in(directory: Directory) -> list[str]:
    """All objects but those in `.runner`, with `*` for what is different each time."""
    names = []
    for entry in directory.list(recursive=True):
        folder, slash, name = entry.name.rpartition("/")
        if folder.partition("/")[0] != ".runner":
            names.append(folder + slash + ("events*" if name.startswith("events.out.tfevents.") else name))
    return names


def checkpoints(*steps: int) -> list[str]:
    return [f"model.ckpt-{step}.{part}" for step in steps for part in ("data-00000-of-00001", "index", "meta")]


def export_of(path: bytes, url: str) -> list[str]:
    folder = path.decode().removeprefix(f"{url}/")
    files = ("saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index")
    return [f"{folder}/{name}" for name in files]


on_s3_too = pytest.mark.parametrize("url", [pytest.param(None, id="memory"), "s3"], indirect=True)


def test_a_training_leaves_exactly_what_it_leaves_on_a_local_disk(url: str, directory: Directory) -> None:
    estimator_of(url).train(linear_input_fn, steps=10)

    assert names_in(directory) == sorted(["checkpoint", "events*", "graph.pbtxt", *checkpoints(1, 5, 10)])
    assert [*scalars_in(directory, "loss")] == [1]


@on_s3_too
def test_a_whole_life(url: str, directory: Directory) -> None:
    estimator = estimator_of(url)
    estimator.train(linear_input_fn, steps=7)
    metrics = estimator.evaluate(linear_input_fn)
    named = estimator.evaluate(linear_input_fn, name="holdout")
    predictions = [float(each["y"]) for each in estimator.predict(lambda: linear_input_fn().take(1))]
    path = estimator.export_saved_model(f"{url}/export/mine", receiver_fn)

    assert estimator.latest_checkpoint() == f"{url}/model.ckpt-7"
    assert metrics == named == {"loss": pytest.approx(0.0, abs=0.1), "global_step": 7}
    assert predictions == pytest.approx([2.0, 4.0], abs=0.2)
    assert scalars_in(open_directory(estimator.eval_dir()), "loss") == {7: pytest.approx(metrics["loss"])}
    assert names_in(directory) == sorted(
        [
            "checkpoint",
            "eval/events*",
            "eval_holdout/events*",
            "events*",
            *export_of(path, url),
            "graph.pbtxt",
            *checkpoints(1, 5, 7),
        ]
    )


@on_s3_too
def test_train_and_evaluate_with_its_exporters(url: str, directory: Directory) -> None:
    estimator = estimator_of(url, save_checkpoints_steps=10)
    exporters = [
        tfe.LatestExporter("latest", receiver_fn, exports_to_keep=1),
        tfe.BestExporter("best", receiver_fn),
        tfe.FinalExporter("final", receiver_fn),
    ]

    result = tfe.train_and_evaluate(
        estimator,
        tfe.TrainSpec(linear_input_fn, max_steps=10),
        tfe.EvalSpec(linear_input_fn, exporters=exporters, start_delay_secs=0, throttle_secs=0),
    )

    assert result is not None
    metrics, paths = result
    assert metrics == {"loss": pytest.approx(0.0, abs=1e-4), "global_step": 10}
    assert paths is not None
    latest, best, final = paths
    assert names_in(directory) == sorted(
        [
            "checkpoint",
            "eval/events*",
            "events*",
            *export_of(best, url),
            *export_of(final, url),
            *export_of(latest, url),
            "graph.pbtxt",
            *checkpoints(1, 10),
        ]
    )


def test_a_training_that_goes_on_marks_where_in_its_events(url: str, directory: Directory) -> None:
    estimator = estimator_of(url, save_summary_steps=1)
    for _ in range(2):
        estimator.train(linear_input_fn, steps=3)

    assert [name for name in names_in(directory) if name == "events*"] == ["events*"] * 2
    starts = [event.step for event in events_in(directory) if event.session_log.status == tf.compat.v1.SessionLog.START]
    assert starts == [1, 4]
    assert [*scalars_in(directory, "loss")] == [1, 2, 3, 4, 5, 6]


def test_the_input_goes_on_where_it_was(url: str, directory: Directory) -> None:
    estimator = estimator_of(url)
    for _ in range(2):
        estimator.train(linear_input_fn, hooks=[CheckpointInputPipelineHook(estimator)], steps=4)
    estimator.train(linear_input_fn, hooks=[CheckpointInputPipelineHook(estimator)])  # what is left of the ten

    assert estimator.latest_checkpoint() == f"{url}/model.ckpt-10"
    assert "input.ckpt-10.index" in names_in(directory)


def test_hooks_of_a_user_may_write_to_the_model_dir(url: str, directory: Directory) -> None:
    v1 = tf.compat.v1
    estimator = estimator_of(url, save_summary_steps=0, log_step_count_steps=None)
    hooks = [
        v1.train.StepCounterHook(every_n_steps=3, output_dir=url),
        v1.train.SummarySaverHook(save_steps=3, output_dir=estimator.eval_dir(), scaffold=v1.train.Scaffold()),
        tfe.experimental.InMemoryEvaluatorHook(estimator, linear_input_fn, name="memory", every_n_iter=10),
    ]

    estimator.train(linear_input_fn, hooks=hooks, steps=10)

    assert [*scalars_in(directory, "global_step/sec")] == [4, 7, 10]
    assert [*scalars_in(open_directory(estimator.eval_dir("memory")), "loss")] == [0, 10]
