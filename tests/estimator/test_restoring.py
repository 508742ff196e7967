"""Evaluation and prediction from checkpoints, those of the real tf.estimator included, and those that do not fit."""

import json
import logging
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format  # type: ignore[import-untyped]

from runner import estimator as tfe
from runner.checkpoint.commits import Commit, commit_name
from runner.errors import CheckpointNotFoundError
from runner.storage.urls import open_directory
from tests.estimator.data import N_EXAMPLES, classifier, eval_input_fn, iris, train_input_fn

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model_dir of DNNClassifier [10, 10] at step 200; not to be changed."""
    model_dir = tmp_path_factory.mktemp("trained")
    classifier(model_dir).train(train_input_fn, steps=200)
    return model_dir


@pytest.fixture
def model_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained model_dir."""
    return Path(shutil.copytree(trained, tmp_path / "model"))


def contents(directory: Path) -> dict[str, bytes]:
    """Names and bytes of all files; of `checkpoint` without the claim of who trains, which comes before all else."""
    files = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    return files | {"checkpoint": files["checkpoint"][files["checkpoint"].index(b"model_checkpoint_path") :]}


def test_a_checkpoint_of_the_real_tf_estimator_evaluates_and_predicts_alike(tmp_path: Path) -> None:
    model_dir = shutil.copytree(FIXTURES / "iris_tf215", tmp_path / "model")
    expected = json.loads((FIXTURES / "iris_tf215_expected.json").read_text())
    estimator = classifier(model_dir)

    metrics = estimator.evaluate(eval_input_fn)
    predictions = list(estimator.predict(eval_input_fn))

    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(expected["evaluate"], abs=1e-5)
    assert len(predictions) == N_EXAMPLES
    for ours, theirs in zip(predictions, expected["predict"], strict=True):
        for name, values in theirs.items():
            np.testing.assert_allclose(ours[name], values, atol=1e-5)


def test_a_checkpoint_of_the_real_tf_estimator_goes_on_training_with_its_slots(tmp_path: Path) -> None:
    model_dir = shutil.copytree(FIXTURES / "iris_tf215", tmp_path / "model")
    slot = "training/Adagrad/dnn/logits/bias/accumulator"
    before = tf.train.load_variable(str(model_dir), slot)

    classifier(model_dir).train(train_input_fn, steps=1)

    after = tf.train.load_variable(str(model_dir), slot)
    assert tf.train.load_variable(str(model_dir), "global_step") == 201
    assert (after >= before).all()
    assert (after - before < 1).all()


def test_a_checkpoint_loads_with_tensorflows_own_tools(trained: Path) -> None:
    reader = tf.train.load_checkpoint(str(trained))

    assert tf.train.latest_checkpoint(str(trained)) == f"{trained}/model.ckpt-200"
    assert reader.get_tensor("global_step") == 200
    assert reader.get_tensor("dnn/hiddenlayer_0/kernel").shape == (4, 10)


def test_a_meta_graph_restores_and_runs_without_the_code_of_the_model(trained: Path) -> None:
    weights = tf.train.load_variable(str(trained), "dnn/logits/kernel")

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        saver = tf.compat.v1.train.import_meta_graph(f"{trained}/model.ckpt-200.meta")
        saver.restore(session, f"{trained}/model.ckpt-200")
        step = session.run(tf.compat.v1.train.get_global_step())
        values = {each.op.name: session.run(each) for each in tf.compat.v1.trainable_variables()}

    assert step == 200
    np.testing.assert_array_equal(values["dnn/logits/kernel"], weights)
    assert len(values) == 6


def test_the_written_graph_is_the_graph_of_the_training(trained: Path) -> None:
    graph_def = text_format.Parse((trained / "graph.pbtxt").read_text(), tf.compat.v1.GraphDef())

    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")

    assert graph.get_operation_by_name("dnn/logits/kernel").type == "VarHandleOp"
    assert graph.get_operation_by_name("save/restore_all").type == "NoOp"


def test_evaluation_returns_and_writes_the_metrics(model_dir: Path) -> None:
    metrics = classifier(model_dir).evaluate(eval_input_fn, name="test")

    (path,) = (model_dir / "eval_test").iterdir()
    written = {
        value.tag: value
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if event.step == 200
    }
    assert {name: value.dtype for name, value in metrics.items()} == {
        "accuracy": np.float32,
        "average_loss": np.float32,
        "loss": np.float32,
        "global_step": np.int64,
    }
    assert metrics["accuracy"] >= 0.9
    assert set(written) == {"accuracy", "average_loss", "loss", "checkpoint_path"}
    assert written["accuracy"].simple_value == metrics["accuracy"]
    assert tf.make_ndarray(written["checkpoint_path"].tensor) == f"{model_dir}/model.ckpt-200".encode()


def test_evaluation_stops_after_its_steps(
    model_dir: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("tensorflow"), "propagate", True)
    caplog.set_level(logging.INFO, logger="tensorflow")

    classifier(model_dir).evaluate(lambda: iris().batch(50).repeat(), steps=2)

    assert [message for message in caplog.messages if message.startswith("Evaluation [")] == [
        "Evaluation [1/2]",
        "Evaluation [2/2]",
    ]
    with pytest.raises(ValueError, match="Must specify steps > 0, given: 0"):
        classifier(model_dir).evaluate(eval_input_fn, steps=0)


def test_predictions_have_the_keys_and_types_of_the_original(model_dir: Path) -> None:
    prediction = next(classifier(model_dir).predict(eval_input_fn))

    assert {name: (value.dtype, value.shape) for name, value in prediction.items()} == {
        "logits": (np.dtype(np.float32), (3,)),
        "probabilities": (np.dtype(np.float32), (3,)),
        "class_ids": (np.dtype(np.int64), (1,)),
        "classes": (np.dtype(object), (1,)),
        "all_class_ids": (np.dtype(np.int32), (3,)),
        "all_classes": (np.dtype(object), (3,)),
    }


def test_predict_keys_select_and_batches_stay_whole_if_asked(model_dir: Path) -> None:
    estimator = classifier(model_dir)

    one = next(estimator.predict(eval_input_fn, predict_keys=["class_ids"]))
    batch = next(estimator.predict(eval_input_fn, predict_keys="logits", yield_single_examples=False))

    assert list(one) == ["class_ids"]
    assert batch["logits"].shape == (50, 3)
    with pytest.raises(ValueError, match=r"Expected to run at least one output from dict_keys\(\['logits'.*'nope'"):
        next(estimator.predict(eval_input_fn, predict_keys=["nope"]))


def test_predictions_can_be_interleaved_and_left_half_way(model_dir: Path) -> None:
    estimator = classifier(model_dir)

    first, second = estimator.predict(eval_input_fn), estimator.predict(eval_input_fn)
    pairs = [(next(first), next(second)) for _ in range(60)]
    assert tf.executing_eagerly()
    first.close()
    rest = list(second)

    assert all((a["logits"] == b["logits"]).all() for a, b in pairs)
    assert len(rest) == N_EXAMPLES - 60


def test_without_a_checkpoint_initial_weights_are_evaluated(tmp_path: Path) -> None:
    estimator = classifier(tmp_path / "none")

    assert estimator.latest_checkpoint() is None
    assert estimator.evaluate(eval_input_fn)["global_step"] == 0


def test_a_lost_checkpoint_file_means_the_newest_complete_checkpoint(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (model_dir / "checkpoint").unlink()

    estimator, prefix = classifier(model_dir), f"{model_dir}/model.ckpt-200"
    prediction = next(estimator.predict(eval_input_fn))
    expected = next(estimator.predict(eval_input_fn, checkpoint_path=prefix))

    assert estimator.evaluate(eval_input_fn)["global_step"] == 200
    assert prediction["logits"].tolist() == expected["logits"].tolist()
    assert estimator.latest_checkpoint() == prefix
    assert any("has no `checkpoint` file" in message for message in caplog.messages)


def test_a_checkpoint_file_that_names_lost_files_is_an_error_for_who_does_not_train(model_dir: Path) -> None:
    (model_dir / "model.ckpt-200.index").unlink()

    with pytest.raises(CheckpointNotFoundError, match=r"names .*model\.ckpt-200, but .* complete steps: \[1\]"):
        classifier(model_dir).evaluate(eval_input_fn)


def test_an_evaluation_whose_checkpoint_is_deleted_meanwhile_is_one_of_the_newest(model_dir: Path) -> None:
    def overtaken_input_fn() -> tf.data.Dataset:
        """The latest checkpoint has been looked up, and not been read, when an evaluation asks for its input."""
        if tf.train.latest_checkpoint(str(model_dir)) == f"{model_dir}/model.ckpt-200":
            classifier(model_dir, keep_checkpoint_max=1).train(train_input_fn, max_steps=203)
        return eval_input_fn()

    metrics = classifier(model_dir).evaluate(overtaken_input_fn)

    (path,) = (model_dir / "eval").iterdir()
    paths = [
        tf.make_ndarray(value.tensor)
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == "checkpoint_path"
    ]
    assert metrics["global_step"] == 203
    assert paths == [f"{model_dir}/model.ckpt-203".encode()]


def test_training_goes_on_from_a_checkpoint_of_another_directory_and_leaves_it_alone(
    model_dir: Path, tmp_path: Path
) -> None:
    before = contents(model_dir)
    other = tmp_path / "other"
    other.mkdir()
    (other / "checkpoint").write_text(
        f'model_checkpoint_path: "{model_dir}/model.ckpt-200"\n'
        f'all_model_checkpoint_paths: "{model_dir}/model.ckpt-200"\n'
    )

    classifier(other, keep_checkpoint_max=1).train(train_input_fn, max_steps=205)

    assert [path.name for path in other.glob("*.index")] == ["model.ckpt-205.index"]
    assert contents(model_dir) == before


def test_a_bad_checkpoint_path_is_refused(model_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"The passed save_path is not a valid checkpoint: /nonexistent/model\.ckpt-1"):
        classifier(model_dir).evaluate(eval_input_fn, checkpoint_path="/nonexistent/model.ckpt-1")


def train(estimator: Any) -> Any:
    return estimator.train(train_input_fn, steps=200)


def evaluate(estimator: Any) -> Any:
    return estimator.evaluate(eval_input_fn)


def predict(estimator: Any) -> Any:
    return next(estimator.predict(eval_input_fn))


@pytest.mark.parametrize("call", [train, evaluate, predict])
def test_a_model_of_another_shape_is_refused_before_anything_changes(
    model_dir: Path, call: Callable[[Any], Any]
) -> None:
    before = contents(model_dir)

    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        call(classifier(model_dir, hidden_units=(20, 20)))

    message = error.value.message
    assert (
        "tensor_name = dnn/hiddenlayer_0/bias; shape in shape_and_slice spec [20] "
        "does not match the shape stored in checkpoint: [10]"
    ) in message
    for name in ("hiddenlayer_0/bias", "hiddenlayer_0/kernel", "hiddenlayer_1/bias", "hiddenlayer_1/kernel"):
        assert f"tensor_name = dnn/{name};" in message
    assert "tensor_name = dnn/logits/kernel;" in message
    assert "tensor_name = dnn/logits/bias;" not in message
    assert f"{model_dir}/model.ckpt-200" in message
    assert contents(model_dir) == before


@pytest.mark.parametrize("call", [train, evaluate, predict])
def test_a_model_with_more_layers_names_what_is_missing(model_dir: Path, call: Callable[[Any], Any]) -> None:
    before = contents(model_dir)

    with pytest.raises(tf.errors.NotFoundError, match="Key dnn/hiddenlayer_2/bias not found in checkpoint") as error:
        call(classifier(model_dir, hidden_units=(10, 10, 10)))

    assert "dnn/hiddenlayer_2/kernel float32 [10,10]" in error.value.message
    assert contents(model_dir) == before


@pytest.mark.parametrize(
    ("hidden_units", "error"),
    [((20, 20), tf.errors.InvalidArgumentError), ((10, 10, 10), tf.errors.NotFoundError)],
)
def test_the_code_that_wrote_a_checkpoint_that_does_not_fit_is_named(
    model_dir: Path, hidden_units: tuple[int, ...], error: type[Exception]
) -> None:
    commit = Commit(
        step=200, generation=2, owner="iris-job", code="5f0c", time=datetime.now(UTC), objects={}, nonce="n"
    )
    open_directory(str(model_dir)).write_bytes(commit_name("model.ckpt-200"), commit.encode())

    with pytest.raises(
        error, match=rf"generation 2 of iris-job.*5f0c: `runner checkpoints {model_dir} --code 200 DIR`"
    ):
        classifier(model_dir, hidden_units=hidden_units).evaluate(eval_input_fn)


def test_all_kinds_of_differences_are_listed_together(model_dir: Path) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        classifier(model_dir, hidden_units=(20,)).train(train_input_fn, steps=1)

    message = error.value.message
    misfits, _, unexpected = message.partition("Unexpected tensors in the checkpoint:")
    assert "tensor_name = dnn/logits/kernel; shape in shape_and_slice spec [20,3]" in misfits
    assert "dnn/hiddenlayer_1/kernel float32 [10,10]" in unexpected


def test_a_model_with_fewer_tensors_trains_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("tensorflow"), "propagate", True)

    def model_fn(features: Any, labels: Any, mode: str, params: dict[str, bool]) -> tfe.EstimatorSpec:
        weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.zeros_initializer())
        if params["more"]:
            tf.compat.v1.get_variable("more", [2], initializer=tf.compat.v1.zeros_initializer())
        loss = tf.reduce_mean(tf.square(weight * features["PetalLength"] - 1.0))
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.01)
        return tfe.EstimatorSpec(
            mode, loss=loss, train_op=optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
        )

    tfe.Estimator(model_fn, str(tmp_path), params={"more": True}).train(train_input_fn, steps=2)
    fewer = tfe.Estimator(model_fn, str(tmp_path), params={"more": False})
    caplog.clear()

    fewer.evaluate(eval_input_fn)
    in_evaluation = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    fewer.train(train_input_fn, steps=2)
    in_training = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    assert in_evaluation == []
    assert in_training == [
        "Unexpected tensors in the checkpoint:\n  more float32 [2]\n"
        f"They are not restored, and not saved again. Checkpoint: {tmp_path}/model.ckpt-2"
    ]
    assert tf.train.load_variable(str(tmp_path), "global_step") == 4
    assert "more" not in dict(tf.train.list_variables(str(tmp_path)))
