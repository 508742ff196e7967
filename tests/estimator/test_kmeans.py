"""KMeans against the recorded schema of the real one, and against centers that are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator import v1

SCHEMA = json.loads((Path(__file__).parent.parent / "fixtures" / "schema.json").read_text())["v1.KMeans"]
KMeans = v1.experimental.KMeans

CORNERS = np.array([[0, 0, 0, 0], [10, 0, 0, 0], [0, 10, 0, 0]], np.float32)
POINTS = np.concatenate([CORNERS + shift for shift in (-0.5, 0.0, 0.5)])
"""Three points around every corner, each group in order of the corners."""


def points(batch_size: int = len(POINTS)) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices({"x": POINTS}).batch(batch_size)


def endless() -> tf.data.Dataset:
    return points().repeat()


def test_variables_metrics_predictions_and_signatures_are_those_of_the_original(tmp_path: Path) -> None:
    trainable: list[str] = []

    class Collect(tfe.SessionRunHook):
        def begin(self) -> None:
            trainable.extend(variable.name for variable in tf.compat.v1.trainable_variables())

    estimator = KMeans(3, str(tmp_path / "model"))
    estimator.train(endless, hooks=[Collect()], steps=3)
    metrics = estimator.evaluate(points)
    prediction = next(estimator.predict(points))
    receiver = tfe.export.build_parsing_serving_input_receiver_fn({"x": tf.io.FixedLenFeature([4], tf.float32)})
    exported = tf.saved_model.load(estimator.export_savedmodel(str(tmp_path / "export"), receiver).decode())

    reader = tf.train.load_checkpoint(estimator.model_dir)
    dtypes = reader.get_variable_to_dtype_map()
    stored = {name: (shape, dtypes[name].name) for name, shape in reader.get_variable_to_shape_map().items()}
    assert stored == {name: (shape, dtype) for name, shape, dtype in SCHEMA["vars"]}
    assert sorted(trainable) == sorted(SCHEMA["trainable"])
    assert sorted(metrics) == SCHEMA["eval_keys"]
    shown = {name: [value.dtype.name, list(value.shape)] for name, value in prediction.items()}
    assert shown == SCHEMA["predict"]
    assert set(exported.signatures) == set(SCHEMA["signatures"])
    for name, (_, inputs, outputs) in SCHEMA["signatures"].items():
        signature = exported.signatures[name]
        assert set(signature.structured_input_signature[1]) == set(inputs)
        assert set(signature.structured_outputs) == set(outputs)
    events = next(Path(estimator.model_dir).glob("events.*"))
    tags = {value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value}
    assert tags >= set(SCHEMA["train_tags"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"initial_clusters": "kmeans_plus_plus", "kmeans_plus_plus_num_retries": 5},
        {"initial_clusters": POINTS[:3]},
        {"initial_clusters": POINTS[:3], "use_mini_batch": False},
        {"initial_clusters": POINTS[:3], "mini_batch_steps_per_iteration": 2},
        {"initial_clusters": lambda inputs, k: inputs[0][:k]},
    ],
)
def test_the_centers_are_found_from_every_kind_of_start(tmp_path: Path, arguments: dict[str, Any]) -> None:
    estimator = KMeans(3, str(tmp_path), seed=1, **arguments)

    estimator.train(endless, steps=6)

    centers = estimator.cluster_centers()
    order = [int(np.argmin(np.square(centers - corner).sum(axis=1))) for corner in CORNERS]
    np.testing.assert_allclose(centers[order], CORNERS, atol=0.6)
    assert list(estimator.predict_cluster_index(points)) == order * 3


def test_a_full_batch_step_is_one_iteration_of_the_algorithm(tmp_path: Path) -> None:
    estimator = KMeans(3, str(tmp_path), initial_clusters=POINTS[:3], use_mini_batch=False)

    estimator.train(endless, steps=1)

    np.testing.assert_allclose(estimator.cluster_centers(), CORNERS, atol=1e-4)
    assert estimator.score(points) == pytest.approx(6 * 4 * 0.25, rel=1e-3)
    distances = next(estimator.transform(points))
    np.testing.assert_allclose(distances, np.linalg.norm(POINTS[0] - CORNERS, axis=1), rtol=1e-3)


def test_centers_are_chosen_from_as_many_batches_as_it_takes(tmp_path: Path) -> None:
    estimator = KMeans(9, str(tmp_path))

    estimator.train(lambda: points(3).repeat(), steps=1)

    assert estimator.cluster_centers().shape == (9, 4)
    assert estimator.score(points) == pytest.approx(0.0, abs=1e-3)


def test_cosine_distances_do_not_depend_on_the_length(tmp_path: Path) -> None:
    directions = np.array([[1, 0], [0, 1]], np.float32)

    def scaled() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(np.concatenate([directions, directions * 7])).repeat(5)

    estimator = KMeans(2, str(tmp_path), initial_clusters=directions, distance_metric=KMeans.COSINE_DISTANCE)
    estimator.train(scaled)

    np.testing.assert_allclose(next(estimator.transform(scaled)), [0.0, 1.0], atol=1e-6)
    assert list(estimator.predict_cluster_index(scaled))[:4] == [0, 1, 0, 1]


def test_training_ends_once_the_loss_hardly_changes(tmp_path: Path) -> None:
    estimator = KMeans(3, str(tmp_path), initial_clusters=POINTS[:3], use_mini_batch=False, relative_tolerance=0.001)

    estimator.train(endless, steps=50)

    assert estimator.get_variable_value("global_step") == 3


def test_training_goes_on_from_the_latest_checkpoint(tmp_path: Path) -> None:
    for _ in range(2):
        estimator = KMeans(3, str(tmp_path), initial_clusters=POINTS[:3])
        estimator.train(endless, steps=2)

    # One for the start, and every point of every step.
    assert estimator.get_variable_value("Variable").tolist() == [13, 13, 13]
    assert estimator.get_variable_value("global_step") == 4


def test_feature_columns_choose_what_a_point_is(tmp_path: Path) -> None:
    def two_features() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors({"x": POINTS, "y": POINTS[:, :1]}).repeat(3)

    columns = [tf.feature_column.numeric_column("x", shape=4)]
    chosen = KMeans(3, str(tmp_path / "chosen"), feature_columns=columns)
    joined = KMeans(3, str(tmp_path / "joined"))
    for estimator in (chosen, joined):
        estimator.train(two_features, steps=1)

    assert chosen.cluster_centers().shape == (3, 4)
    assert joined.cluster_centers().shape == (3, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial_clusters": "best"}, "Unsupported initialization algorithm 'best'"),
        ({"distance_metric": "manhattan"}, "Unsupported distance metric 'manhattan'"),
    ],
)
def test_unknown_choices_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KMeans(3, **arguments)
