"""RNNClassifier and RNNEstimator against the recorded schema of the real ones, and what sequences add."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from runner import estimator as tfe
from runner.estimator.experimental import RNNClassifier, RNNEstimator
from runner.estimator.heads.sequential import SequentialHeadWrapper

SCHEMA = json.loads((Path(__file__).parent.parent / "fixtures" / "schema.json").read_text())
KEYS = [key for key in SCHEMA if key.startswith("v2.RNN")]
_legacy = tf_keras.optimizers.legacy

LENGTHS = np.array([1, 2, 3, 4, 2, 3, 1, 4])
INDICES = np.array([(row, step) for row, length in enumerate(LENGTHS) for step in range(length)], np.int64)
TOKENS = np.array([(row * 3 + step) % 10 for row, step in INDICES], np.int64)


def by_step(values: Any) -> tf.SparseTensor:
    return tf.SparseTensor(INDICES, values, [len(LENGTHS), 4])


def input_fn(epochs: int = 3) -> tf.data.Dataset:
    features = {"tok": by_step(TOKENS), "cat": np.array(["a", "b"] * 4)}
    return tf.data.Dataset.from_tensors((features, np.arange(8) % 2)).repeat(epochs)


def labelled_steps(epochs: int = 3) -> tf.data.Dataset:
    features = {"tok": by_step(TOKENS), "w": by_step((TOKENS + 1).astype(np.float32))}
    return tf.data.Dataset.from_tensors((features, by_step(TOKENS % 2))).repeat(epochs)


def tokens() -> Any:
    column = tf.feature_column.sequence_categorical_column_with_identity("tok", 10)
    return tf.feature_column.embedding_column(column, 4)


def context() -> Any:
    column = tf.feature_column.categorical_column_with_vocabulary_list("cat", ["a", "b"])
    return tf.feature_column.embedding_column(column, 2)


def make(key: str, model_dir: Path) -> tfe.Estimator:
    """The estimator that an entry of the schema was recorded from."""
    if key == "v2.RNNEstimator_gru":
        head = tfe.RegressionHead()
        return RNNEstimator(head, [tokens()], units=[6, 5], cell_type="gru", model_dir=str(model_dir))
    cell_type = key.removeprefix("v2.RNNClassifier_")
    return RNNClassifier([tokens()], units=[6], cell_type=cell_type, model_dir=str(model_dir))


class Trainables(tfe.SessionRunHook):
    """Keeps the names of the trainable variables."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def begin(self) -> None:
        self.names = [variable.name for variable in tf.compat.v1.trainable_variables()]


def variables_of(model_dir: Path) -> dict[str, tuple[list[int], str]]:
    reader = tf.train.load_checkpoint(str(model_dir))
    dtypes = reader.get_variable_to_dtype_map()
    return {name: (shape, dtypes[name].name) for name, shape in reader.get_variable_to_shape_map().items()}


@pytest.mark.parametrize("key", KEYS)
def test_variables_metrics_and_predictions_are_those_of_the_original(tmp_path: Path, key: str) -> None:
    estimator, expected, trainables = make(key, tmp_path), SCHEMA[key], Trainables()

    estimator.train(input_fn, hooks=[trainables])
    metrics = estimator.evaluate(lambda: input_fn(1))
    prediction = next(estimator.predict(lambda: input_fn(1)))

    assert variables_of(tmp_path) == {name: (shape, dtype) for name, shape, dtype in expected["vars"]}
    assert trainables.names == expected["trainable"]
    assert sorted(metrics) == expected["eval_keys"]
    assert {name: [value.dtype.name, list(value.shape)] for name, value in prediction.items()} == expected["predict"]
    events = next(tmp_path.glob("events.*"))
    tags = {value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value}
    assert tags >= set(expected["train_tags"])


def test_the_class_of_an_estimator_is_that_of_the_schema() -> None:
    assert KEYS
    assert {SCHEMA[key]["class"].rpartition(".")[2] for key in KEYS} == {"RNNClassifier", "RNNEstimator"}


def test_context_joins_every_step(tmp_path: Path) -> None:
    estimator = RNNClassifier([tokens()], [context()], units=[6, 5], cell_type="lstm", model_dir=str(tmp_path))

    estimator.train(input_fn)

    shapes = {name: shape for name, (shape, _) in variables_of(tmp_path).items()}
    assert shapes["rnn_model/rnn/stacked_rnn_cells/lstm_cell/kernel"] == [4 + 2, 4 * 6]
    assert shapes["dense_features/cat_embedding/embedding_weights"] == [2, 2]
    assert "training/Adagrad/dense_features/cat_embedding/embedding_weights/accumulator" in shapes


@pytest.mark.parametrize(
    ("arguments", "kernel"),
    [
        ({"units": 6, "cell_type": "lstm"}, "rnn_model/lstm/lstm_cell/kernel"),
        ({"units": 6, "cell_type": "gru"}, "rnn_model/gru/gru_cell/kernel"),
        ({"units": [6]}, "rnn_model/rnn/simple_rnn_cell/kernel"),
        ({"units": [6], "cell_type": tf_keras.layers.GRUCell}, "rnn_model/rnn/gru_cell/kernel"),
        ({"rnn_cell_fn": lambda: tf_keras.layers.LSTMCell(6)}, "rnn_model/rnn/lstm_cell/kernel"),
    ],
)
def test_every_way_to_name_a_cell_trains(tmp_path: Path, arguments: dict[str, Any], kernel: str) -> None:
    estimator = RNNClassifier([tokens()], model_dir=str(tmp_path), **arguments)

    estimator.train(input_fn)

    assert kernel in variables_of(tmp_path)
    assert estimator.evaluate(lambda: input_fn(1))["global_step"] == 3


@pytest.mark.parametrize(
    ("optimizer", "slot"),
    [
        ("Adam", "training/Adam/rnn_model/logits/kernel/m"),
        (_legacy.SGD(0.1, momentum=0.5), "training/SGD/rnn_model/logits/kernel/momentum"),
        (lambda: _legacy.RMSprop(0.1), "training/RMSprop/rnn_model/logits/kernel/rms"),
        (tf.compat.v1.train.AdagradOptimizer(0.1), "rnn_model/logits/kernel/Adagrad"),
    ],
    ids=["name", "object", "callable", "v1"],
)
def test_every_kind_of_optimizer_trains(tmp_path: Path, optimizer: Any, slot: str) -> None:
    estimator = RNNClassifier([tokens()], units=[3], model_dir=str(tmp_path), optimizer=optimizer)

    estimator.train(input_fn)

    assert [name for name in variables_of(tmp_path) if slot in name]


@pytest.mark.parametrize(("optimizer", "moved"), [("SGD", 0.05 * 5.0), (_legacy.SGD(0.05), 0.05 * 100.0)])
def test_gradients_are_clipped_for_an_optimizer_given_by_name_alone(
    tmp_path: Path, optimizer: Any, moved: float
) -> None:
    head = tfe.RegressionHead(loss_fn=lambda labels, logits: 100.0 * logits)  # the bias has a gradient of 100
    estimator = RNNEstimator(head, [tokens()], units=[3], model_dir=str(tmp_path), optimizer=optimizer)

    estimator.train(input_fn, steps=1)

    assert tf.train.load_variable(str(tmp_path), "rnn_model/logits/bias") == pytest.approx(-moved)


def test_a_seed_makes_a_training_repeatable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        config = tfe.RunConfig(tf_random_seed=3)
        RNNClassifier([tokens()], units=[4], model_dir=str(tmp_path / name), config=config).train(input_fn)

    for name in ("simple_rnn_cell/kernel", "simple_rnn_cell/recurrent_kernel"):
        values = [tf.train.load_variable(str(tmp_path / each), f"rnn_model/rnn/{name}") for each in ("a", "b")]
        np.testing.assert_array_equal(*values)


def test_what_follows_the_end_of_a_sequence_does_not_matter(tmp_path: Path) -> None:
    def padded(width: int) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(
            {"tok": tf.SparseTensor([[0, 0], [0, 1]], np.array([3, 4], np.int64), [1, width])}
        )

    estimator = RNNClassifier([tokens()], units=[4], model_dir=str(tmp_path))
    estimator.train(input_fn)

    # Another sequence of the batch may be longer: the shorter one is padded then.
    short, long = (next(estimator.predict(lambda width=width: padded(width))) for width in (2, 4))
    np.testing.assert_allclose(short["logits"], long["logits"], rtol=1e-6)


def test_every_step_is_classified(tmp_path: Path) -> None:
    estimator = RNNClassifier(
        [tokens()],
        units=[8],
        return_sequences=True,
        model_dir=str(tmp_path),
        weight_column="w",
        optimizer=lambda: _legacy.Adam(0.05),
        config=tfe.RunConfig(tf_random_seed=1),
    )

    estimator.train(lambda: labelled_steps(40))
    metrics = estimator.evaluate(lambda: labelled_steps(1))
    predictions = list(estimator.predict(lambda: labelled_steps(1)))

    # A step's label is whether its token is odd, which the network can tell; padding counts nowhere.
    assert metrics["accuracy"] == 1.0
    weights = TOKENS + 1
    assert metrics["label/mean"] == pytest.approx(weights[TOKENS % 2 == 1].sum() / weights.sum())
    masks = np.array([prediction["sequence_mask"] for prediction in predictions])
    np.testing.assert_array_equal(masks.sum(axis=1), LENGTHS)
    ids = np.array([prediction["class_ids"][..., 0] for prediction in predictions])
    np.testing.assert_array_equal(ids[masks], TOKENS % 2)


def test_a_mask_of_the_features_is_used(tmp_path: Path) -> None:
    def first_steps() -> tf.data.Dataset:
        mask = tf.constant([[True, False, False, False]] * 8)
        return labelled_steps(1).map(
            lambda features, labels: ({**features, "mask": mask}, tf.sparse.slice(labels, [0, 0], [8, 1]))
        )

    estimator = RNNClassifier(
        [tokens()], units=[4], return_sequences=True, sequence_mask="mask", model_dir=str(tmp_path)
    )
    estimator.train(first_steps)

    assert estimator.evaluate(first_steps)["label/mean"] == pytest.approx((TOKENS % 2)[INDICES[:, 1] == 0].mean())


def test_labels_that_do_not_fit_the_mask_are_an_error_of_the_step(tmp_path: Path) -> None:
    def one_label_too_few() -> tf.data.Dataset:
        return labelled_steps().map(lambda features, labels: (features, tf.sparse.slice(labels, [0, 0], [8, 3])))

    estimator = RNNClassifier([tokens()], units=[4], return_sequences=True, model_dir=str(tmp_path))

    with pytest.raises(tf.errors.InvalidArgumentError, match="Tensor shape is incompatible with provided mask"):
        estimator.train(one_label_too_few)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"units": [3], "rnn_cell_fn": lambda: None}, ValueError, "units and cell_type must not be specified when"),
        ({"cell_type": "gru", "rnn_cell_fn": lambda: None}, ValueError, "units and cell_type must not be specified"),
        ({"units": [3], "n_classes": 1}, ValueError, "n_classes must be > 2"),
        ({"units": [3], "return_sequences": True, "sequence_mask": 3}, TypeError, "column must be a string"),
        ({"units": [3], "return_sequences": True, "weight_column": 3}, TypeError, "must be either a string or an iter"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RNNClassifier([tokens()], **arguments)


@pytest.mark.parametrize(
    ("cell_type", "message"),
    [("rnn", "Supported strings are:"), (lambda units: units, "RNN cell should have a `call` and `state_size` method")],
)
def test_what_makes_no_cell_is_refused(tmp_path: Path, cell_type: Any, message: str) -> None:
    estimator = RNNClassifier([tokens()], units=[3], cell_type=cell_type, model_dir=str(tmp_path))

    with pytest.raises(ValueError, match=message):
        estimator.train(input_fn)


def test_sequences_need_a_sequential_head() -> None:
    with pytest.raises(ValueError, match="Provided head must be a `_SequentialHead` object"):
        RNNEstimator(tfe.BinaryClassHead(), [tokens()], units=[3], return_sequences=True)
    with pytest.raises(ValueError, match="`MultiHead` is not supported"):
        SequentialHeadWrapper(tfe.MultiHead([tfe.BinaryClassHead(name="a"), tfe.BinaryClassHead(name="b")]))


def test_a_sequential_head_trains_with_logits_of_ones_own_network(tmp_path: Path) -> None:
    head = SequentialHeadWrapper(tfe.RegressionHead(name="h"), feature_columns=[])
    estimator = RNNEstimator(head, [tokens()], units=[3], return_sequences=True, model_dir=str(tmp_path))

    estimator.train(labelled_steps)

    assert head.name == "h_sequential"
    assert sorted(estimator.evaluate(lambda: labelled_steps(1))) == [
        "average_loss/h",
        "global_step",
        "label/mean/h",
        "loss",
        "prediction/mean/h",
    ]
