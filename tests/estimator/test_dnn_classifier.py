"""DNNClassifier against the recorded schema of the real one: variables, slots, metrics, predictions, summaries."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from runner import estimator as tfe
from tests.estimator.data import classifier, train_input_fn

SCHEMA = json.loads((Path(__file__).parent.parent / "fixtures" / "dnn_classifier_schema.json").read_text())
_legacy = tf_keras.optimizers.legacy


def input_fn(n_classes: int) -> tf.data.Dataset:
    features = {"x": np.arange(32, dtype=np.float32).reshape(8, 4) / 32, "cat": np.array(["a", "b", "c", "z"] * 2)}
    return tf.data.Dataset.from_tensor_slices((features, np.arange(8) % n_classes)).repeat(3).batch(8)


def columns(*, embedding: bool) -> list[Any]:
    numeric = tf.feature_column.numeric_column("x", shape=(4,))
    if not embedding:
        return [numeric]
    category = tf.feature_column.categorical_column_with_vocabulary_list("cat", ["a", "b", "c"])
    return [numeric, tf.feature_column.embedding_column(category, 2)]


def make(key: str, model_dir: Path) -> tfe.DNNClassifier:
    """The classifier that an entry of the schema was recorded from."""
    name = key.removeprefix("DNNClassifier_")
    optimizers = {
        "Adam": "Adam",
        "RMSProp": "RMSProp",
        "SGD": "SGD",
        "Ftrl": "Ftrl",
        "legacyAdam": _legacy.Adam(0.01),
        "momentumSGD": lambda: _legacy.SGD(0.01, momentum=0.9),
    }
    return tfe.DNNClassifier(
        [8] if name in optimizers else [8, 4],
        columns(embedding=name in ("bin", "3")),
        str(model_dir),
        n_classes=2 if name == "bin" else 3,
        optimizer=optimizers.get(name, "Adagrad"),
        batch_norm=name == "bn",
    )


@pytest.mark.parametrize("key", SCHEMA)
def test_variables_metrics_and_predictions_are_those_of_the_original(tmp_path: Path, key: str) -> None:
    estimator, expected = make(key, tmp_path), SCHEMA[key]
    n_classes = 2 if key.endswith("bin") else 3

    estimator.train(lambda: input_fn(n_classes))
    metrics = estimator.evaluate(lambda: input_fn(n_classes))
    prediction = next(estimator.predict(lambda: input_fn(n_classes)))

    reader = tf.train.load_checkpoint(str(tmp_path))
    dtypes = reader.get_variable_to_dtype_map()
    stored = {name: (shape, dtypes[name].name) for name, shape in reader.get_variable_to_shape_map().items()}
    assert stored == {name: (shape, dtype) for name, shape, dtype in expected["vars"]}
    assert sorted(metrics) == expected["eval_keys"]
    assert {name: [value.dtype.name, list(value.shape)] for name, value in prediction.items()} == expected["predict"]
    events = next(tmp_path.glob("events.*"))
    tags = {value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value}
    assert tags >= set(expected["train_tags"])


def test_batch_norm_moves_its_statistics(tmp_path: Path) -> None:
    estimator = make("DNNClassifier_bn", tmp_path)

    estimator.train(lambda: input_fn(3))

    mean = tf.train.load_variable(str(tmp_path), "dnn/hiddenlayer_0/batchnorm_0/moving_mean")
    assert np.abs(mean).max() > 0


def test_dropout_differs_between_steps_and_is_off_outside_of_training(tmp_path: Path) -> None:
    losses: list[float] = []

    class Losses(tf.compat.v1.train.SessionRunHook):
        def before_run(self, run_context: Any) -> Any:
            return tf.compat.v1.train.SessionRunArgs(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)[0])

        def after_run(self, run_context: Any, run_values: Any) -> None:
            losses.append(float(run_values.results))

    estimator = tfe.DNNClassifier(
        [32], columns(embedding=False), str(tmp_path), n_classes=3, dropout=0.5, optimizer=lambda: _legacy.SGD(0.0)
    )
    estimator.train(lambda: input_fn(3), hooks=[Losses()])

    assert len(set(losses)) == 3
    first, second = (estimator.evaluate(lambda: input_fn(3))["loss"] for _ in range(2))
    assert first == second


def test_string_labels_and_weights_are_taken_from_their_columns(tmp_path: Path) -> None:
    def weighted() -> tf.data.Dataset:
        features = {"x": np.zeros((4, 4), np.float32), "w": np.array([1.0, 1.0, 0.0, 0.0], np.float32)}
        return tf.data.Dataset.from_tensor_slices((features, np.array(["no", "no", "yes", "yes"]))).batch(4)

    estimator = tfe.DNNClassifier(
        [2], columns(embedding=False), str(tmp_path), weight_column="w", label_vocabulary=["no", "yes"]
    )
    estimator.train(lambda: weighted().repeat(20))

    metrics = estimator.evaluate(weighted)
    prediction = next(estimator.predict(weighted))
    assert metrics["label/mean"] == 0.0
    assert metrics["accuracy"] == 1.0
    assert prediction["classes"].tolist() == [b"no"]
    assert prediction["all_classes"].tolist() == [b"no", b"yes"]


def test_a_v1_optimizer_trains_too(tmp_path: Path) -> None:
    estimator = tfe.DNNClassifier(
        [4], columns(embedding=False), str(tmp_path), optimizer=lambda: tf.compat.v1.train.AdamOptimizer(0.01)
    )

    estimator.train(lambda: input_fn(2))

    assert tf.train.load_variable(str(tmp_path), "global_step") == 3
    assert estimator.evaluate(lambda: input_fn(2))["global_step"] == 3


def test_a_learning_rate_may_be_a_tensor_that_follows_the_global_step(tmp_path: Path) -> None:
    def decayed() -> Any:
        return tf.compat.v1.train.exponential_decay(0.1, tf.compat.v1.train.get_global_step(), 1, 0.5)

    for name, optimizer in {
        "tensor": lambda: _legacy.Adam(learning_rate=decayed()),
        "callable": lambda: _legacy.Adam(learning_rate=decayed),
        "instance": _legacy.Adam(learning_rate=decayed),
    }.items():
        model_dir = str(tmp_path / name)
        estimator = tfe.DNNClassifier([4], columns(embedding=False), model_dir, optimizer=optimizer)

        estimator.train(lambda: input_fn(2))

        # As with the original, a rate that is worked out in the graph is not stored.
        names = {name for name, _ in tf.train.list_variables(model_dir)}
        assert "training/Adam/beta_1" in names
        assert "training/Adam/learning_rate" not in names


def test_a_schedule_of_ones_own_and_gradient_transformers_are_used(tmp_path: Path) -> None:
    class Half(tf_keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return 0.5

        def get_config(self) -> dict[str, Any]:
            return {}

    def ones(grads_and_vars: Any) -> Any:
        return [(tf.ones_like(variable), variable) for _, variable in grads_and_vars]

    estimator = tfe.DNNClassifier(
        [4],
        columns(embedding=False),
        str(tmp_path),
        optimizer=_legacy.SGD(Half(), gradient_transformers=[ones]),
    )
    estimator.train(lambda: input_fn(2), steps=2)

    assert tf.train.load_variable(str(tmp_path), "dnn/logits/bias") == pytest.approx(-1.0)


def test_labels_out_of_range_are_an_error_of_the_step(tmp_path: Path) -> None:
    estimator = tfe.DNNClassifier([4], columns(embedding=False), str(tmp_path), n_classes=3)

    with pytest.raises(tf.errors.InvalidArgumentError, match="Labels must be <= n_classes - 1: 2"):
        estimator.train(lambda: input_fn(4))


def with_labels(labels: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(({"x": np.zeros((len(labels), 4), np.float32)}, labels))


@pytest.mark.parametrize(("labels", "dtype"), [([1.9], "float32"), ([True], "bool"), (["a"], "string")])
def test_labels_that_are_no_class_ids_are_refused(tmp_path: Path, labels: list[Any], dtype: str) -> None:
    estimator = tfe.DNNClassifier([4], columns(embedding=False), str(tmp_path), n_classes=3)

    with pytest.raises(ValueError, match=f"Labels dtype should be integer. Instead got <dtype: '{dtype}'>"):
        estimator.train(lambda: with_labels(labels))


def test_two_classes_take_labels_in_between_as_the_original(tmp_path: Path) -> None:
    estimator = tfe.DNNClassifier([4], columns(embedding=False), str(tmp_path), optimizer=lambda: _legacy.SGD(0.0))
    estimator.train(lambda: with_labels([1.0]))

    half = estimator.evaluate(lambda: with_labels([0.25, 0.75]))
    flags = estimator.evaluate(lambda: with_labels([True, False]))

    assert half["label/mean"] == flags["label/mean"] == 0.5
    assert half["loss"] == pytest.approx(np.log(2.0))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Labels must be <= n_classes - 1: 1"):
        estimator.evaluate(lambda: with_labels([1.5]))
    with pytest.raises(ValueError, match=r"Instead got <dtype: 'string'>\. Pass a label_vocabulary"):
        estimator.evaluate(lambda: with_labels(["a"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_classes": 1}, "n_classes must be > 2: 1."),
        (
            {"n_classes": 3, "label_vocabulary": ["a"]},
            'does not have "n_classes" items',
        ),
        ({"loss_reduction": "mean"}, "Invalid loss_reduction: mean"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tfe.DNNClassifier([4], columns(embedding=False), str(tmp_path), **arguments)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [("Lion", "Unsupported optimizer name: Lion"), (tf.keras.optimizers.SGD(0.1), "does not work|works in a graph")],
)
def test_an_optimizer_that_cannot_train_a_graph_is_refused(tmp_path: Path, optimizer: Any, message: str) -> None:
    estimator = tfe.DNNClassifier([4], columns(embedding=False), str(tmp_path), optimizer=optimizer)

    with pytest.raises(ValueError, match=message):
        estimator.train(lambda: input_fn(2))


def test_trainings_with_one_optimizer_object_do_not_share_slots(tmp_path: Path) -> None:
    optimizer = _legacy.Adam(0.01)
    for name in ("a", "b"):
        model_dir = str(tmp_path / name)
        estimator = tfe.DNNClassifier([4], columns(embedding=False), model_dir, optimizer=optimizer)
        estimator.train(lambda: input_fn(2))

        assert tf.train.load_variable(model_dir, "training/Adam/dnn/logits/bias/m").shape == (1,)


def test_a_callable_that_returns_an_optimizer_of_another_graph_is_refused(tmp_path: Path) -> None:
    optimizer = _legacy.Adam(0.01)
    estimator = tfe.DNNClassifier([4], columns(embedding=False), str(tmp_path), optimizer=lambda: optimizer)
    estimator.train(lambda: input_fn(2))

    with pytest.raises(ValueError, match="Let it make a new one in every call"):
        estimator.train(lambda: input_fn(2))


def test_a_callable_may_bind_its_optimizer_to_the_global_step(tmp_path: Path) -> None:
    def bound() -> Any:
        optimizer: Any = _legacy.SGD(lambda: 0.1 / tf.cast(optimizer.iterations + 1, tf.float32))
        optimizer.iterations = tf.compat.v1.train.get_global_step()
        return optimizer

    estimator = tfe.DNNClassifier([4], columns(embedding=False), str(tmp_path), optimizer=bound)
    estimator.train(lambda: input_fn(2))

    assert estimator.evaluate(lambda: input_fn(2))["global_step"] == 3


def test_an_optimizer_that_was_used_eagerly_keeps_its_settings(tmp_path: Path) -> None:
    optimizer = _legacy.SGD(0.25, momentum=0.5, clipvalue=1.0)
    optimizer.apply_gradients([(tf.constant(1.0), tf.Variable(1.0))])

    estimator = tfe.DNNClassifier([4], columns(embedding=False), str(tmp_path), optimizer=optimizer)
    estimator.train(lambda: input_fn(2))

    assert tf.train.load_variable(str(tmp_path), "training/SGD/learning_rate") == 0.25
    assert tf.train.load_variable(str(tmp_path), "training/SGD/momentum") == 0.5
    assert tf.train.load_variable(str(tmp_path), "training/SGD/dnn/logits/bias/momentum").shape == (1,)
    assert optimizer.iterations == 1


def test_an_optimizer_that_scales_the_loss_trains(tmp_path: Path) -> None:
    optimizer = tf_keras.mixed_precision.LossScaleOptimizer(_legacy.SGD(0.1))
    estimator = tfe.DNNClassifier([4], columns(embedding=False), str(tmp_path), optimizer=optimizer)

    estimator.train(lambda: input_fn(2))

    assert estimator.evaluate(lambda: input_fn(2))["global_step"] == 3


def test_a_seed_makes_a_training_repeatable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        classifier(tmp_path / name).train(train_input_fn, steps=5)

    kernels = [tf.train.load_variable(str(tmp_path / name), "dnn/hiddenlayer_0/kernel") for name in ("a", "b")]
    np.testing.assert_array_equal(*kernels)
