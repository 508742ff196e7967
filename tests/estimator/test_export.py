"""Exports as SavedModels: what is written, what is served, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator.experimental import build_raw_supervised_input_receiver_fn
from tests.estimator.data import linear_input_fn, linear_model_fn

_v1 = tf.compat.v1
X = {"x": np.array([1.0, 2.0], np.float32)}
receiver_fn = tfe.export.build_raw_serving_input_receiver_fn(X)
supervised_receiver_fn = build_raw_supervised_input_receiver_fn(X, np.array([2.0, 4.0], np.float32))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by linear_model_fn for 10 steps, with checkpoints at 1, 5 and 10."""
    directory = tmp_path_factory.mktemp("linear")
    config = tfe.RunConfig(save_checkpoints_steps=5)
    tfe.Estimator(linear_model_fn, str(directory), config=config, params={}).train(linear_input_fn)
    return directory


@pytest.fixture
def estimator(model_dir: Path) -> tfe.Estimator:
    return tfe.Estimator(linear_model_fn, str(model_dir), params={})


def serve(path: bytes, signature: str = "serving_default", **inputs: Any) -> dict[str, Any]:
    """What a signature answers, as a server would ask it."""
    loaded = tf.saved_model.load(path.decode(), tags=["serve"])
    outputs = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


def signatures_of(path: bytes, *tags: str) -> dict[str, Any]:
    with tf.Graph().as_default(), _v1.Session() as session:
        return dict(_v1.saved_model.load(session, list(tags), path.decode()).signature_def)


def files_of(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_an_export_is_a_directory_named_by_the_time_and_answers_as_predict(
    estimator: tfe.Estimator, tmp_path: Path
) -> None:
    expected = [example["y"] for example in estimator.predict(lambda: tf.data.Dataset.from_tensors(X))]

    path = estimator.export_saved_model(str(tmp_path), receiver_fn)

    assert isinstance(path, bytes)
    name = Path(path.decode()).name
    assert len(name) == 10
    assert path == f"{tmp_path}/{name}".encode()
    assert files_of(tmp_path) == {
        f"{name}/saved_model.pb",
        f"{name}/variables/variables.data-00000-of-00001",
        f"{name}/variables/variables.index",
    }
    assert serve(path, x=X["x"])["y"].tolist() == expected


def test_an_export_logs_what_the_original_does(
    estimator: tfe.Estimator, tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    path = estimator.export_saved_model(str(tmp_path), receiver_fn)

    temporary = f"{tmp_path}/temp-{Path(path.decode()).name}"
    lines = [record.getMessage() for record in info_log.records if record.name == "tensorflow"]
    assert lines[lines.index("Calling model_fn.") :] == [
        "Calling model_fn.",
        "Done calling model_fn.",
        "Signatures INCLUDED in export for Classify: None",
        "Signatures INCLUDED in export for Regress: None",
        "Signatures INCLUDED in export for Predict: ['serving_default']",
        "Signatures INCLUDED in export for Train: None",
        "Signatures INCLUDED in export for Eval: None",
        f"Restoring parameters from {estimator.latest_checkpoint()}",
        "Assets added to graph.",
        "No assets to write.",
        f"SavedModel written to: {temporary}/saved_model.pb",
    ]


def test_a_relative_directory_stays_relative(
    estimator: tfe.Estimator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    path = estimator.export_saved_model("a/b", receiver_fn)

    assert path.startswith(b"a/b/1")
    assert (tmp_path / path.decode() / "saved_model.pb").exists()


def test_an_earlier_checkpoint_can_be_exported(estimator: tfe.Estimator, model_dir: Path, tmp_path: Path) -> None:
    path = estimator.export_saved_model(tmp_path, receiver_fn, checkpoint_path=str(model_dir / "model.ckpt-1"))

    weight = tf.train.load_variable(str(model_dir / "model.ckpt-1"), "weight")
    assert serve(path, x=X["x"])["y"] == pytest.approx(weight * X["x"])


def test_the_graph_may_be_text_and_further_files_come_along(estimator: tfe.Estimator, tmp_path: Path) -> None:
    source = tmp_path / "notes.txt"
    source.write_text("made today")

    path = estimator.export_saved_model(
        str(tmp_path / "out"), receiver_fn, assets_extra={"docs/notes.txt": str(source)}, as_text=True
    )

    exported = Path(path.decode())
    assert (exported / "assets.extra/docs/notes.txt").read_text() == "made today"
    assert "saved_model_schema_version" in (exported / "saved_model.pbtxt").read_text()
    assert serve(path, x=X["x"])["y"].shape == (2,)


def test_an_export_that_fails_in_the_middle_leaves_nothing(estimator: tfe.Estimator, tmp_path: Path) -> None:
    missing = {"notes.txt": str(tmp_path / "missing")}  # is copied when all else is written

    with pytest.raises(tf.errors.NotFoundError, match="missing"):
        estimator.export_saved_model(str(tmp_path / "out"), receiver_fn, assets_extra=missing)

    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_is_invisible_to_a_server_until_it_is_whole(estimator: tfe.Estimator, tmp_path: Path) -> None:
    seen: list[str] = []

    def looking_receiver_fn() -> Any:
        seen.extend(path.name for path in tmp_path.iterdir())
        return receiver_fn()

    path = estimator.export_saved_model(str(tmp_path), looking_receiver_fn)

    assert seen == [f"temp-{Path(path.decode()).name}"]
    assert [each.name for each in tmp_path.iterdir()] == [Path(path.decode()).name]


def test_two_exports_that_begin_in_one_second_do_not_share_a_directory(
    estimator: tfe.Estimator, tmp_path: Path
) -> None:
    inner: list[bytes] = []

    def exporting_receiver_fn() -> Any:
        inner.append(estimator.export_saved_model(str(tmp_path), receiver_fn))
        return receiver_fn()

    outer = estimator.export_saved_model(str(tmp_path), exporting_receiver_fn)

    assert sorted(each.name.encode() for each in tmp_path.iterdir()) == sorted(
        Path(path.decode()).name.encode() for path in (outer, *inner)
    )
    assert outer not in inner


def test_without_a_checkpoint_there_is_nothing_to_export(tmp_path: Path) -> None:
    estimator = tfe.Estimator(linear_model_fn, str(tmp_path / "model"), params={})

    with pytest.raises(ValueError, match=f"Couldn't find trained model at {tmp_path}/model."):
        estimator.export_saved_model(str(tmp_path / "out"), receiver_fn)

    assert not (tmp_path / "out").exists()


def test_an_untrained_model_exports_the_weights_that_it_starts_from(model_dir: Path, tmp_path: Path) -> None:
    for start, weight in ((model_dir, "model.ckpt-10"), (model_dir / "model.ckpt-1", "model.ckpt-1")):
        estimator = tfe.Estimator(linear_model_fn, str(tmp_path / "none"), params={}, warm_start_from=str(start))

        path = estimator.export_saved_model(str(tmp_path / weight), receiver_fn)

        assert serve(path, x=X["x"])["y"][0] == tf.train.load_variable(str(model_dir / weight), "weight")


def test_a_checkpoint_that_is_not_there_is_refused(estimator: tfe.Estimator, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"The passed save_path is not a valid checkpoint: {tmp_path}/nope"):
        estimator.export_saved_model(str(tmp_path), receiver_fn, checkpoint_path=f"{tmp_path}/nope")


@pytest.mark.parametrize(
    ("shape", "name", "error", "message"),
    [
        ([3], "weight", tf.errors.InvalidArgumentError, r"tensor_name = weight; shape in shape_and_slice spec \[3\]"),
        (
            [],
            "other",
            ValueError,
            "Encountered error with mode `infer` while restoring checkpoint from: .*ckpt-10",
        ),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_before_anything_is_written(
    model_dir: Path, tmp_path: Path, shape: list[int], name: str, error: type[Exception], message: str
) -> None:
    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        weight = _v1.get_variable(name, shape, initializer=_v1.zeros_initializer())
        return tfe.EstimatorSpec(mode, predictions=tf.reduce_sum(weight) * features["x"])

    with pytest.raises(error, match=message):
        tfe.Estimator(model_fn, str(model_dir)).export_saved_model(str(tmp_path), receiver_fn)

    assert list(tmp_path.iterdir()) == []


def test_a_receiver_function_is_needed(estimator: tfe.Estimator, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"An input_receiver_fn must be defined\."):
        estimator.export_saved_model(str(tmp_path), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"No valid modes for exporting found. Got dict_keys\(\['test'\]\)"):
        estimator.experimental_export_all_saved_models(str(tmp_path), {"test": receiver_fn})


def test_the_old_name_of_the_method_is_explained(estimator: tfe.Estimator) -> None:
    assert not hasattr(estimator, "export_savedmodel")
    with pytest.raises(AttributeError, match="Please use `export_saved_model` instead"):
        _ = estimator.export_savedmodel


def test_all_modes_share_one_set_of_variables(estimator: tfe.Estimator, tmp_path: Path) -> None:
    path = estimator.experimental_export_all_saved_models(
        str(tmp_path),
        {
            tfe.ModeKeys.PREDICT: receiver_fn,
            tfe.ModeKeys.TRAIN: supervised_receiver_fn,
            tfe.ModeKeys.EVAL: supervised_receiver_fn,
        },
    )

    assert serve(path, x=X["x"])["y"].shape == (2,)
    train, evaluate = signatures_of(path, "train")["train"], signatures_of(path, "eval")["eval"]
    assert train.method_name == "tensorflow/supervised/training"
    assert evaluate.method_name == "tensorflow/supervised/eval"
    assert set(train.inputs) == set(evaluate.inputs) == {"x", "label"}
    assert set(train.outputs) == set(evaluate.outputs) == {"loss", "predictions/y"}
    with tf.Graph().as_default() as graph, _v1.Session() as session:
        _v1.saved_model.load(session, ["train"], path.decode())
        feed = {train.inputs["x"].name: [1.0], train.inputs["label"].name: [2.0]}
        before = session.run(train.outputs["loss"].name, feed)
        session.run(graph.get_collection("saved_model_train_op"), feed)
        assert session.run(train.outputs["loss"].name, feed) < before


def test_one_mode_can_be_exported_alone(estimator: tfe.Estimator, tmp_path: Path) -> None:
    path = estimator.export_saved_model(str(tmp_path), supervised_receiver_fn, experimental_mode=tfe.ModeKeys.EVAL)

    assert set(signatures_of(path, "eval")) == {"eval"}


def test_metrics_of_an_evaluation_are_exported_with_their_updates(model_dir: Path, tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        weight = _v1.get_variable("weight", [])
        loss = tf.reduce_sum(weight * features["x"] - labels)
        return tfe.EstimatorSpec(mode, loss=loss, eval_metric_ops={"mean": _v1.metrics.mean(labels)})

    path = tfe.Estimator(model_fn, str(model_dir)).export_saved_model(
        str(tmp_path), supervised_receiver_fn, experimental_mode=tfe.ModeKeys.EVAL
    )

    with tf.Graph().as_default(), _v1.Session() as session:
        signature = _v1.saved_model.load(session, ["eval"], str(path, "utf-8")).signature_def["eval"]
        outputs = {name: info.name for name, info in signature.outputs.items()}
        feed = {signature.inputs["x"].name: [0.0], signature.inputs["label"].name: [3.0]}
        session.run(outputs["metrics/mean/update_op"], feed)
        assert session.run(outputs["metrics/mean/value"]) == 3.0


def with_outputs(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
    """A model whose features are parsed or raw, with one signature of each kind."""
    x = features["x"]
    scores = tf.stack([x, _v1.get_variable("weight", []) * x], axis=-1)
    return tfe.EstimatorSpec(
        mode,
        predictions={"scores": scores},
        export_outputs={
            "serving_default": tfe.export.ClassificationOutput(scores, tf.as_string(tf.argsort(scores))),
            "regression": tfe.export.RegressionOutput(x),
            "predict": tfe.export.PredictOutput({"scores": scores}),
        },
    )


def alternative_receiver_fn() -> tfe.export.ServingInputReceiver:
    examples = _v1.placeholder(tf.string, [None], name="examples")
    features = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})
    return tfe.export.ServingInputReceiver(features, {"examples": examples}, {"raw": features})


def test_alternative_inputs_have_signatures_of_their_own(
    model_dir: Path, tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    path = tfe.Estimator(with_outputs, str(model_dir)).export_saved_model(str(tmp_path), alternative_receiver_fn)

    signatures = signatures_of(path, "serve")
    assert set(signatures) == {"serving_default", "regression", "predict", "raw:predict"}
    assert {name: set(each.inputs) for name, each in signatures.items()} == {
        "serving_default": {"inputs"},
        "regression": {"inputs"},
        "predict": {"examples"},
        "raw:predict": {"x"},
    }
    assert serve(path, "raw:predict", x=[2.0])["scores"][0, 0] == 2.0
    assert "Signatures INCLUDED in export for Predict: ['predict', 'raw:predict']" in info_log.messages
    assert "Signatures EXCLUDED from export because they cannot be be served via TensorFlow Serving APIs:" in (
        info_log.messages
    )


def test_a_raw_receiver_has_no_classification(
    model_dir: Path, tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    path = tfe.Estimator(with_outputs, str(model_dir)).export_saved_model(str(tmp_path), receiver_fn)

    assert set(signatures_of(path, "serve")) == {"predict"}
    assert "Export includes no default signature!" in info_log.messages
    assert any(
        message.startswith("'serving_default' : Classification signatures can only accept a single tensor input")
        for message in info_log.messages
    )


def test_an_output_that_needs_what_no_request_feeds_is_left_out(
    model_dir: Path, tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    def unfed_receiver_fn() -> tfe.export.ServingInputReceiver:
        fed, unfed = _v1.placeholder(tf.float32, [None]), _v1.placeholder(tf.float32, [None], name="unfed")
        return tfe.export.ServingInputReceiver({"x": unfed}, {"other": fed})

    tfe.Estimator(linear_model_fn, str(model_dir), params={}).export_saved_model(str(tmp_path), unfed_receiver_fn)

    assert "Export includes no signatures!" in info_log.messages
    assert any("because of the dependency on `unfed`" in message for message in info_log.messages)


def test_a_model_of_one_tensor_is_served(model_dir: Path, tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        return tfe.EstimatorSpec(mode, predictions=_v1.get_variable("weight", []) * features)

    def tensor_receiver_fn() -> tfe.export.TensorServingInputReceiver:
        x = _v1.placeholder(tf.float32, [None])
        return tfe.export.TensorServingInputReceiver(x, x)

    path = tfe.Estimator(model_fn, str(model_dir)).export_saved_model(str(tmp_path), tensor_receiver_fn)

    weight = tf.train.load_variable(str(model_dir), "weight")
    assert serve(path, input=[3.0])["output"] == pytest.approx([3 * weight])


def test_local_state_and_tables_are_ready_when_the_model_is_served(model_dir: Path, tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        offset = _v1.get_variable("offset", [], collections=["local_variables"], initializer=_v1.ones_initializer())
        keys = tf.lookup.KeyValueTensorInitializer(tf.constant([1, 2], tf.int64), tf.constant(["one", "two"]))
        names = tf.lookup.StaticHashTable(keys, "?").lookup(tf.cast(features["x"], tf.int64))
        return tfe.EstimatorSpec(mode, predictions={"names": names, "y": features["x"] + offset})

    path = tfe.Estimator(model_fn, str(model_dir)).export_saved_model(str(tmp_path), receiver_fn)

    answer = serve(path, x=X["x"])
    assert answer["names"].tolist() == [b"one", b"two"]
    assert answer["y"].tolist() == [2.0, 3.0]


def test_the_scaffold_has_a_say_in_saver_and_local_initialization(model_dir: Path, tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        renamed = _v1.get_variable("renamed", [])
        offset = _v1.get_variable("offset", [], collections=["local_variables"])
        saver, local_init_op = _v1.train.Saver({"weight": renamed}), tf.group(offset.assign(5.0))
        scaffold = _v1.train.Scaffold(saver=saver, local_init_op=local_init_op)
        return tfe.EstimatorSpec(mode, predictions={"y": renamed * features["x"] + offset}, scaffold=scaffold)

    path = tfe.Estimator(model_fn, str(model_dir)).export_saved_model(str(tmp_path), receiver_fn)

    weight = tf.train.load_variable(str(model_dir), "weight")
    assert serve(path, x=X["x"])["y"] == pytest.approx(weight * X["x"] + 5.0)


def test_the_scaffolds_saver_may_be_an_object_based_checkpoint(tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        weight, step = tf.Variable(3.0), _v1.train.get_global_step()
        scaffold = _v1.train.Scaffold(saver=tf.train.Checkpoint(weight=weight, step=step))
        y = weight * features["x"]
        loss, train_op = tf.reduce_sum(y), tf.group(weight.assign_add(1.0), step.assign_add(1))
        return tfe.EstimatorSpec(mode, predictions={"y": y}, loss=loss, train_op=train_op, scaffold=scaffold)

    estimator = tfe.Estimator(model_fn, str(tmp_path / "model"))
    estimator.train(lambda: tf.data.Dataset.from_tensors(X), steps=1)

    path = estimator.export_saved_model(str(tmp_path / "out"), receiver_fn)

    assert serve(path, x=X["x"])["y"].tolist() == [4.0, 8.0]
    restored = tf.Variable(0.0)
    tf.train.Checkpoint(weight=restored).restore(estimator.latest_checkpoint()).expect_partial()
    assert restored.numpy() == 4.0
    assert estimator.train(lambda: tf.data.Dataset.from_tensors(X), steps=1).evaluate(
        lambda: tf.data.Dataset.from_tensors(X)
    ) == {"loss": 15.0, "global_step": 2}
