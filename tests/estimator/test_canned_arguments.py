"""Arguments of canned estimators: learning rates that come with names, activations, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe

X = tf.feature_column.numeric_column("x", shape=2)
MANY = [tf.feature_column.numeric_column(f"x{index}") for index in range(50)]


def input_fn() -> tf.data.Dataset:
    features = {"x": np.eye(4, 2, dtype=np.float32), **{f"x{index}": np.ones(4, np.float32) for index in range(50)}}
    return tf.data.Dataset.from_tensors((features, [0, 1, 1, 0]))


@pytest.mark.parametrize(
    ("make", "rates"),
    [
        (lambda path: tfe.DNNClassifier([2], [X], path), {"Adagrad": 0.05}),
        (lambda path: tfe.DNNRegressor([2], [X], path, optimizer="Adam"), {"Adam": 0.05}),
        (lambda path: tfe.LinearClassifier([X], path), {"Ftrl": 0.2}),
        (lambda path: tfe.LinearRegressor(MANY, path, optimizer="SGD"), {"SGD": 1 / np.sqrt(50)}),
        (lambda path: tfe.LinearRegressor([X], path, optimizer=None), {"Ftrl": 0.2}),
        (
            lambda path: tfe.DNNLinearCombinedClassifier(path, [X], "RMSProp", [X], dnn_hidden_units=[2]),
            {"Adagrad": 0.001, "RMSprop": 0.005},
        ),
        (tfe.BaselineClassifier, {"Ftrl": 0.3}),
    ],
)
def test_an_optimizer_given_by_name_has_the_documented_learning_rate(
    tmp_path: Path, make: Callable[[str], tfe.Estimator], rates: dict[str, float]
) -> None:
    estimator = make(str(tmp_path))

    estimator.train(input_fn)

    for name, rate in rates.items():
        assert estimator.get_variable_value(f"training/{name}/learning_rate") == pytest.approx(rate)


def test_one_part_of_a_combined_model_is_enough(tmp_path: Path) -> None:
    wide = tfe.DNNLinearCombinedClassifier(str(tmp_path / "wide"), [X])
    deep = tfe.DNNLinearCombinedClassifier(str(tmp_path / "deep"), dnn_feature_columns=[X], dnn_hidden_units=[2])

    wide.train(input_fn)
    deep.train(input_fn)

    assert not [name for name in wide.get_variable_names() if name.startswith("dnn/")]
    assert not [name for name in deep.get_variable_names() if name.startswith("linear/")]
    assert "training/Ftrl/iter" not in wide.get_variable_names()  # it counts the global step
    assert wide.get_variable_value("global_step") == deep.get_variable_value("global_step") == 1


def test_optimizers_of_one_class_for_both_parts_do_not_share_state(tmp_path: Path) -> None:
    estimator = tfe.DNNLinearCombinedClassifier(str(tmp_path), [X], "Adam", [X], "Adam", [2])

    estimator.train(input_fn)

    names = estimator.get_variable_names()
    assert {"training/Adam/dnn/logits/bias/m", "training/Adam_1/linear/linear_model/x/weights/m"} <= set(names)
    assert estimator.get_variable_value("training/Adam_1/iter") == estimator.get_variable_value("global_step") == 1


def test_v1_optimizers_train_both_parts(tmp_path: Path) -> None:
    sgd = tf.compat.v1.train.GradientDescentOptimizer
    estimator = tfe.DNNLinearCombinedClassifier(str(tmp_path), [X], sgd(0.5), [X], sgd(0.1), [2])

    estimator.train(input_fn)

    assert estimator.get_variable_value("global_step") == 1
    assert np.any(estimator.get_variable_value("linear/linear_model/x/weights"))


@pytest.mark.parametrize(("activation", "expected"), [("tanh", np.tanh(2.0)), (None, 2.0), (tf.nn.relu6, 2.0)])
def test_an_activation_is_a_function_its_name_or_none(tmp_path: Path, activation: Any, expected: float) -> None:
    names = {"dnn/hiddenlayer_0/kernel": [[2.0]], "dnn/hiddenlayer_0/bias": [0.0], "dnn/logits/kernel": [[1.0]]}
    tensors = [tf.constant(value) for value in [*names.values(), [0.0]]]
    checkpoint = str(tmp_path / "weights.ckpt")
    tf.raw_ops.SaveV2(
        prefix=checkpoint, tensor_names=[*names, "dnn/logits/bias"], shape_and_slices=[""] * 4, tensors=tensors
    )
    one = tf.feature_column.numeric_column("x1")
    estimator = tfe.DNNRegressor([1], [one], str(tmp_path / "model"), activation_fn=activation)

    prediction = next(estimator.predict(input_fn, checkpoint_path=with_global_step(checkpoint)))

    assert prediction["predictions"] == pytest.approx(expected)


def with_global_step(checkpoint: str) -> str:
    reader = tf.train.load_checkpoint(checkpoint)
    names = [*reader.get_variable_to_shape_map(), "global_step"]
    tensors = [*(tf.constant(reader.get_tensor(name)) for name in names[:-1]), tf.constant(0, tf.int64)]
    path = f"{checkpoint}-0"
    tf.raw_ops.SaveV2(prefix=path, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
    return path


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tfe.DNNClassifier([2], [X], n_classes=1), ValueError, "n_classes must be > 2: 1"),
        (lambda: tfe.LinearClassifier([X], n_classes=0), ValueError, "n_classes must be > 2: 0"),
        (lambda: tfe.BaselineClassifier(n_classes=1), ValueError, "n_classes must be > 2: 1"),
        (lambda: tfe.DNNLinearCombinedClassifier(None, [X], n_classes=1), ValueError, "n_classes must be > 2: 1"),
        (lambda: tfe.DNNRegressor([2], [X], label_dimension=0), ValueError, "Invalid label_dimension 0"),
        (lambda: tfe.DNNClassifier(None, [X]), TypeError, "'NoneType' object is not iterable"),  # type: ignore[arg-type]
        (
            lambda: tfe.DNNLinearCombinedRegressor(linear_feature_columns=[], dnn_feature_columns=()),
            ValueError,
            "Either linear_feature_columns or dnn_feature_columns must be defined",
        ),
        (
            lambda: tfe.DNNLinearCombinedRegressor(dnn_feature_columns=[X]),
            ValueError,
            "dnn_hidden_units must be defined when dnn_feature_columns is specified",
        ),
    ],
)
def test_arguments_that_make_no_model_are_refused_at_once(
    make: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_units": [-1]}, "expected a positive integer. Received: units=-1"),
        ({"hidden_units": ["a"]}, "invalid literal for int"),
        ({"dropout": 1.5}, "Invalid value 1.5 received for `rate`, expected a value between 0 and 1"),
        ({"activation_fn": "nope"}, "Unknown activation function 'nope'"),
        ({"weight_column": "nope"}, "Feature nope is not in features dictionary"),
    ],
)
def test_arguments_that_make_no_network_are_refused_in_its_graph(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    estimator = tfe.DNNClassifier(**{"hidden_units": [2], **arguments}, feature_columns=[X], model_dir=str(tmp_path))

    with pytest.raises(ValueError, match=message):
        estimator.train(input_fn)


def test_a_sparse_combiner_that_is_none_is_refused(tmp_path: Path) -> None:
    column = tf.feature_column.categorical_column_with_identity("x1", 2)
    estimator = tfe.LinearClassifier([column], str(tmp_path), sparse_combiner="nope")

    with pytest.raises(ValueError, match="combiner must be one of 'mean', 'sqrtn' or 'sum', got nope"):
        estimator.train(lambda: tf.data.Dataset.from_tensors(({"x1": [1, 0]}, [0, 1])))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: tfe.DNNClassifier([2], [X], path),
        lambda path: tfe.LinearClassifier([X], path),
        lambda path: tfe.DNNLinearCombinedClassifier(path, [X]),
        tfe.BaselineClassifier,
    ],
)
def test_features_that_are_no_dict_are_refused(tmp_path: Path, make: Callable[[str], tfe.Estimator]) -> None:
    with pytest.raises(ValueError, match=r"features should be a dictionary of `Tensor`s. Given type: <class"):
        make(str(tmp_path)).train(lambda: tf.data.Dataset.from_tensors(([[1.0, 2.0]], [1])))


def test_sync_replicas_cannot_train_a_model_of_two_parts(tmp_path: Path) -> None:
    sgd = tf.compat.v1.train.GradientDescentOptimizer(0.1)
    sync = tf.compat.v1.train.SyncReplicasOptimizer(sgd, replicas_to_aggregate=1)
    estimator = tfe.DNNLinearCombinedClassifier(str(tmp_path), [X], sync, [X], dnn_hidden_units=[2])

    with pytest.raises(ValueError, match="SyncReplicasOptimizer does not support multi optimizers case"):
        estimator.train(input_fn)
