"""The receivers of an exported model: what they check, and the placeholders that they make."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner.estimator import experimental, export
from runner.estimator.export.receivers import SupervisedInputReceiver


@pytest.fixture
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


def placeholder(name: str = "x") -> Any:
    return tf.compat.v1.placeholder(tf.float32, [None], name=name)


@pytest.mark.usefixtures("graph")
def test_single_tensors_get_the_names_of_the_original() -> None:
    x = placeholder()

    receiver = export.ServingInputReceiver(x, x, {"other": x})

    assert receiver.features == {"feature": x}
    assert receiver.receiver_tensors == {"input": x}
    assert receiver.receiver_tensors_alternatives == {"other": {"input": x}}
    assert receiver._fields == ("features", "receiver_tensors", "receiver_tensors_alternatives")


@pytest.mark.usefixtures("graph")
def test_a_model_of_one_tensor_gets_it_as_it_is() -> None:
    x, examples = placeholder(), placeholder("examples")

    receiver = export.TensorServingInputReceiver(x, examples)

    assert receiver.features is x
    assert receiver.receiver_tensors == {"input": examples}
    assert receiver.receiver_tensors_alternatives is None


@pytest.mark.usefixtures("graph")
def test_sparse_and_ragged_features_and_integer_keys_are_taken() -> None:
    sparse = tf.compat.v1.sparse_placeholder(tf.float32)
    ragged = tf.compat.v1.ragged.placeholder(tf.float32, 1, [])

    receiver = export.ServingInputReceiver({"sparse": sparse, 7: ragged}, {"sparse": sparse})

    assert receiver.features == {"sparse": sparse, 7: ragged}


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "x"), "features must be defined."),
        (("x", None), "receiver_tensors must be defined."),
        (({1.5: "x"}, "x"), "feature keys must be strings or ints: 1.5."),
        (({"a": [1]}, "x"), "feature a must be a Tensor, SparseTensor, or RaggedTensor."),
        (("x", {1: "x"}), "receiver_tensor keys must be strings: 1."),
        (("x", {"a": 1}), "receiver_tensor a must be a Tensor, SparseTensor, or RaggedTensor."),
        (("x", "x", "x"), "receiver_tensors_alternatives must be a dict: "),
        (("x", "x", {"a": None}), "receiver_tensors_alternatives must be defined."),
        (
            ("x", "x", {"a": {"b": 1}}),
            "receiver_tensors_alternative b must be a Tensor, SparseTensor, or RaggedTensor.",
        ),
    ],
)
def test_what_is_no_tensor_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    x = placeholder()
    given = [tf.nest.map_structure(lambda value: x if isinstance(value, str) else value, each) for each in arguments]

    with pytest.raises(ValueError, match=message):
        export.ServingInputReceiver(*given)


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize(
    ("features", "message"),
    [(None, "features must be defined."), ({"a": 1}, "feature must be a Tensor, SparseTensor, or RaggedTensor.")],
)
def test_a_model_of_one_tensor_gets_no_dict(features: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export.TensorServingInputReceiver(features, placeholder())


@pytest.mark.usefixtures("graph")
def test_labels_are_checked_and_left_as_they_are() -> None:
    x = placeholder()

    receiver = SupervisedInputReceiver(x, {"y": x}, x)

    assert receiver.features is x
    assert receiver.labels == {"y": x}
    assert receiver.receiver_tensors == {"input": x}
    with pytest.raises(ValueError, match=r"labels must be defined\."):
        SupervisedInputReceiver(x, None, x)


@pytest.mark.parametrize("batch_size", [None, 3])
def test_examples_are_parsed_by_their_spec(graph: tf.Graph, batch_size: int | None) -> None:
    spec = {"x": tf.io.FixedLenFeature([2], tf.float32), "words": tf.io.VarLenFeature(tf.string)}

    receiver = export.build_parsing_serving_input_receiver_fn(spec, batch_size)()

    examples = receiver.receiver_tensors["examples"]
    assert (examples.name, examples.dtype, examples.shape.as_list()) == (
        "input_example_tensor:0",
        tf.string,
        [batch_size],
    )
    assert receiver.features["x"].shape.as_list() == [batch_size, 2]
    assert isinstance(receiver.features["words"], tf.SparseTensor)
    example = tf.train.Example(
        features=tf.train.Features(feature={"x": tf.train.Feature(float_list={"value": [1, 2]})})
    )
    with tf.compat.v1.Session(graph=graph) as session:
        value = session.run(receiver.features["x"], {examples: [example.SerializeToString()] * (batch_size or 1)})
    assert value.tolist() == [[1.0, 2.0]] * (batch_size or 1)


def test_raw_features_are_fed_under_the_names_of_their_operations() -> None:
    features = {"eager": tf.constant([[1.0]])}
    with tf.Graph().as_default():
        features |= {"x": tf.zeros([5, 2], name="inner"), "unknown": tf.compat.v1.placeholder(tf.int64, name="rank")}

    with tf.Graph().as_default():
        receiver = export.build_raw_serving_input_receiver_fn(features)()

    assert receiver.features == receiver.receiver_tensors
    assert {key: (value.op.name, value.dtype) for key, value in receiver.features.items()} == {
        "eager": ("Placeholder", tf.float32),
        "x": ("inner", tf.float32),
        "unknown": ("rank", tf.int64),
    }
    assert receiver.features["x"].shape.as_list() == [None, 2]
    assert receiver.features["unknown"].shape.rank is None


@pytest.mark.usefixtures("graph")
def test_a_raw_batch_may_have_a_fixed_size() -> None:
    receiver = export.build_raw_serving_input_receiver_fn({"x": np.zeros([5, 2], np.float32)}, default_batch_size=4)()

    assert receiver.features["x"].shape.as_list() == [4, 2]


@pytest.mark.usefixtures("graph")
def test_single_features_and_labels_are_fed_as_input_and_label() -> None:
    receiver = experimental.build_raw_supervised_input_receiver_fn(
        np.zeros([2, 3], np.float32), np.zeros([2], np.int64)
    )()

    assert receiver.receiver_tensors == {"input": receiver.features, "label": receiver.labels}
    assert receiver.labels.dtype == tf.int64


@pytest.mark.usefixtures("graph")
def test_named_features_and_labels_are_fed_by_name() -> None:
    x, y = np.zeros([2], np.float32), np.zeros([2], np.int64)

    receiver = experimental.build_raw_supervised_input_receiver_fn({"x": x}, {"y": y})()

    assert receiver.receiver_tensors == {**receiver.features, **receiver.labels}
    assert list(receiver.receiver_tensors) == ["x", "y"]


@pytest.mark.parametrize(("features", "labels"), [({"x": [0.0]}, {"x": [0.0]}), ({"label": [0.0]}, [0.0])])
def test_a_feature_and_a_label_of_one_name_are_refused(features: Any, labels: Any) -> None:
    with pytest.raises(ValueError, match="Features and labels must have distinct keys"):
        experimental.build_raw_supervised_input_receiver_fn(features, labels)


def test_an_eval_output_names_its_parts_in_a_signature(graph: tf.Graph) -> None:
    value, update = tf.compat.v1.metrics.mean(tf.constant([1.0, 3.0]))
    output = export.EvalOutput(tf.constant(2.0), {"y": tf.constant([1.0])}, {"mean": (value, update)})

    signature = output.as_signature_def({"x": tf.compat.v1.placeholder(tf.float32, [None])})

    assert sorted(signature.outputs) == ["loss", "metrics/mean/update_op", "metrics/mean/value", "predictions/y"]
    assert signature.method_name == "tensorflow/supervised/eval"
