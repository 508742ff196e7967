from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow as tf
import tf_keras

from runner.estimator.model_fn import EstimatorSpec, ModeKeys

HOOK_FIELDS = ["training_chief_hooks", "training_hooks", "evaluation_hooks", "prediction_hooks"]


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


def constant(value: Any = 1.0) -> tf.Tensor:
    return tf.constant(value)


def foreign() -> tf.Tensor:
    with tf.Graph().as_default():
        return tf.constant(1.0, name="foreign")


def train_spec(**changes: Any) -> EstimatorSpec:
    return EstimatorSpec(**{"mode": ModeKeys.TRAIN, "loss": constant(), "train_op": tf.no_op(), **changes})


def eval_spec(**changes: Any) -> EstimatorSpec:
    return EstimatorSpec(**{"mode": ModeKeys.EVAL, "loss": constant(), **changes})


def predict_spec(**changes: Any) -> EstimatorSpec:
    return EstimatorSpec(**{"mode": ModeKeys.PREDICT, "predictions": {"a": constant()}, **changes})


def predict_output() -> Any:
    return next(iter(predict_spec().export_outputs.values()))


def test_modes_are_the_strings_of_the_original() -> None:
    assert (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT) == ("train", "eval", "infer")


def test_fields_are_in_the_order_of_the_original() -> None:
    assert EstimatorSpec._fields == (
        "mode",
        "predictions",
        "loss",
        "train_op",
        "eval_metric_ops",
        "export_outputs",
        "training_chief_hooks",
        "training_hooks",
        "scaffold",
        "evaluation_hooks",
        "prediction_hooks",
    )


def test_what_is_not_given_is_empty() -> None:
    spec = train_spec()

    assert (spec.predictions, spec.eval_metric_ops, spec.export_outputs) == ({}, {}, None)
    assert [getattr(spec, name) for name in HOOK_FIELDS] == [()] * 4
    assert isinstance(spec.scaffold, tf.compat.v1.train.Scaffold)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (ModeKeys.TRAIN, "Missing train_op."),
        (ModeKeys.EVAL, "Missing loss."),
        (ModeKeys.PREDICT, "Missing predictions."),
    ],
)
def test_a_mode_without_what_it_needs_is_refused(mode: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        EstimatorSpec(mode)


def test_training_needs_a_loss_too() -> None:
    with pytest.raises(ValueError, match=r"^Missing loss.$"):
        train_spec(loss=None)


def test_predictions_may_be_empty() -> None:
    assert predict_spec(predictions={}).predictions == {}


@pytest.mark.parametrize("loss", [[1.0], [[1.0]]])
def test_a_loss_of_one_element_becomes_a_scalar(loss: Any) -> None:
    assert train_spec(loss=constant(loss)).loss.shape == ()


def test_a_loss_of_unknown_shape_is_taken_as_it_is() -> None:
    loss = tf.compat.v1.placeholder(tf.float32)

    assert train_spec(loss=loss).loss is loss


def test_a_loss_of_several_elements_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Loss must be scalar, given: Tensor"):
        train_spec(loss=constant([1.0, 2.0]))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("loss", 3, "loss must be Tensor, given: 3"),
        ("train_op", 3, "train_op must be Operation or Tensor, given: 3"),
        ("predictions", 3, "predictions must be Tensor, given: 3"),
        ("predictions", {"a": 3}, "predictions[a] must be Tensor, given: 3"),
        ("eval_metric_ops", 3, "eval_metric_ops must be a dict, given: 3"),
        (
            "eval_metric_ops",
            {"a": 3},
            "Values of eval_metric_ops must be (metric_value, update_op) tuples, given: 3 for key: a",
        ),
        (
            "eval_metric_ops",
            {"a": (1, 2)},
            "Values of eval_metric_ops must be (metric_value, update_op) tuples, given: (1, 2) for key: a",
        ),
        ("scaffold", 3, "scaffold must be tf.train.Scaffold. Given: 3"),
        *((field, [3], "All hooks must be SessionRunHook instances, given: 3") for field in HOOK_FIELDS),
        *((field, 3, "'int' object is not iterable") for field in HOOK_FIELDS),
    ],
)
def test_a_value_of_the_wrong_type_gives_the_message_of_the_original(field: str, value: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        train_spec(**{field: value})

    assert str(caught.value) == message


def test_sparse_predictions_are_refused() -> None:
    sparse = tf.sparse.SparseTensor([[0]], [1.0], [1])

    with pytest.raises(TypeError, match=r"^predictions must be Tensor, given: SparseTensor"):
        predict_spec(predictions=sparse)


def test_a_variable_as_train_op_stands_for_its_operation() -> None:
    variable = tf.compat.v1.get_variable("v", [])

    assert train_spec(train_op=variable).train_op is variable.op


@pytest.mark.parametrize(
    ("field", "wrap", "name"),
    [
        ("loss", lambda tensor: tensor, 'loss with "foreign:0"'),
        ("train_op", lambda tensor: tensor.op, 'train_op with "foreign"'),
        ("predictions", lambda tensor: tensor, 'prediction values with "foreign:0"'),
        ("predictions", lambda tensor: {"p": tensor}, 'prediction values with "p: foreign:0"'),
        ("eval_metric_ops", lambda tensor: {"m": (tensor, tensor.op)}, 'eval_metric_ops with "m: foreign:0"'),
    ],
)
def test_a_tensor_of_another_graph_is_refused(field: str, wrap: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be from the default graph. Possible causes of this error incl"):
        train_spec(**{field: wrap(foreign())})


def test_a_metric_value_may_be_nested_and_its_update_an_operation() -> None:
    metric = ({"x": constant(), "y": constant()}, tf.no_op())

    assert eval_spec(eval_metric_ops={"m": metric}).eval_metric_ops == {"m": metric}


def test_a_keras_metric_becomes_value_and_update_with_local_variables() -> None:
    metric = tf_keras.metrics.Mean()
    metric.update_state([1.0, 2.0])

    value, update_op = eval_spec(eval_metric_ops={"mean": metric}).eval_metric_ops["mean"]

    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.local_variables_initializer())
        session.run(update_op)
        assert session.run(value) == 1.5


def test_a_keras_metric_that_was_never_updated_is_refused() -> None:
    with pytest.raises(ValueError, match=r'^Please call update_state\(...\) on the "mean" metric$'):
        eval_spec(eval_metric_ops={"mean": tf_keras.metrics.Mean()})


def test_predictions_are_exported_by_default() -> None:
    spec = predict_spec()

    assert list(spec.export_outputs) == ["serving_default"]
    assert spec.export_outputs["serving_default"].outputs == spec.predictions


def test_a_single_export_output_is_the_default_too() -> None:
    output = predict_output()

    assert predict_spec(export_outputs={"a": output}).export_outputs == {"a": output, "serving_default": output}


def test_several_export_outputs_need_a_default() -> None:
    with pytest.raises(
        ValueError, match=r"^Multiple `export_outputs` were provided, but none of them are specified as"
    ):
        predict_spec(export_outputs={"a": predict_output(), "b": predict_output()})


@pytest.mark.parametrize(
    ("export_outputs", "message"),
    [
        (3, "`export_outputs` must be dict, received: 3."),
        ({"a": 3}, "Values in `export_outputs` must be ExportOutput objects, received: {'a': 3}."),
    ],
)
def test_export_outputs_of_the_wrong_type_are_refused_in_prediction(export_outputs: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        predict_spec(export_outputs=export_outputs)

    assert str(caught.value) == message


@pytest.mark.parametrize("field", HOOK_FIELDS)
def test_hooks_become_a_tuple(field: str) -> None:
    hook = tf.compat.v1.train.SessionRunHook()

    assert getattr(train_spec(**{field: iter([hook])}), field) == (hook,)


def test_replace_checks_again() -> None:
    spec = train_spec()

    assert spec._replace(loss=constant([3.0])).loss.shape == ()
    with pytest.raises(ValueError, match=r"^Missing loss.$"):
        spec._replace(loss=None)


def test_replace_keeps_the_mode() -> None:
    with pytest.raises(ValueError, match=r"^mode of EstimatorSpec cannot be changed.$"):
        train_spec()._replace(mode=ModeKeys.EVAL)
