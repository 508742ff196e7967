"""The texts of errors, compared whole with those recorded from the real library."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.errors import CheckpointPathError
from tests.estimator.data import linear_input_fn, linear_model_fn

_v1 = tf.compat.v1

Dataset = tf.data.Dataset


def estimator(model_dir: Any, model_fn: Any = linear_model_fn, **kwargs: Any) -> tfe.Estimator:
    if model_fn is linear_model_fn:
        kwargs = {"params": {"scale": 1.0}, **kwargs}
    return tfe.Estimator(model_fn, str(model_dir), **kwargs)


def returns(make_spec: Callable[..., Any]) -> Callable[..., Any]:
    """A model_fn whose result depends on the mode alone."""

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        return make_spec(mode)

    return model_fn


def without_labels(features: Any, mode: str) -> Any:
    raise AssertionError("not to be called")


def without_features(labels: Any) -> Any:
    raise AssertionError("not to be called")


def with_more(features: Any, more: Any) -> Any:
    raise AssertionError("not to be called")


def predicts(make: Callable[[Any], Any]) -> Callable[..., tfe.EstimatorSpec]:
    """A model_fn that predicts something of its feature x."""

    def model_fn(features: Any, mode: str) -> tfe.EstimatorSpec:
        return tfe.EstimatorSpec(mode, predictions=make(features["x"]))

    return model_fn


def metric(name: str) -> Callable[..., tfe.EstimatorSpec]:
    """A model_fn with a metric of that name."""

    def make_spec(mode: str) -> tfe.EstimatorSpec:
        return tfe.EstimatorSpec(mode, loss=tf.constant(1.0), eval_metric_ops={name: _v1.metrics.mean(1.0)})

    return returns(make_spec)


def features() -> tf.data.Dataset:
    return Dataset.from_tensors({"x": [1.0, 2.0]})


class Case(NamedTuple):
    """What raises, given a model_dir that does not exist, and the message, in which {dir} stands for that."""

    call: Callable[[Path], Any]
    error: type[Exception]
    message: str


NOT_TRAINING = (
    "Train has been called wrong configuration. Please use tf.estimator.train_and_evaluate which calls proper API "
    "according to given configuration. Current configuration: {config}."
)
A_METRIC = (
    "Metric with name {name} is not allowed, because Estimator already defines a default metric with the same name."
)
PAIR = "input_fn should return (features, labels) as a len 2 tuple."
NO_SAVER_HOOK = (
    "There should be a CheckpointSaverHook to use saving_listeners. Please set one of the "
    "RunConfig.save_checkpoints_steps or RunConfig.save_checkpoints_secs."
)

CASES = {
    # of the constructor
    "model_fn None": Case(lambda d: estimator(d, None), ValueError, "model_fn must be provided to Estimator."),
    "model_fn 3": Case(lambda d: estimator(d, 3), TypeError, "unsupported callable"),
    "no features": Case(
        lambda d: estimator(d, without_features),
        ValueError,
        f"model_fn ({without_features}) must include features argument.",
    ),
    "more": Case(
        lambda d: estimator(d, with_more),
        ValueError,
        f"model_fn ({with_more}) has following not expected args: ['more']",
    ),
    "no params": Case(
        lambda d: estimator(d, without_labels, params={"a": 1}),
        ValueError,
        f"model_fn ({without_labels}) does not include params argument, but params ({{'a': 1}}) is passed to "
        "Estimator.",
    ),
    "config": Case(
        lambda d: estimator(d, config=5), ValueError, "config must be an instance of `RunConfig`, but provided 5."
    ),
    "two model_dirs": Case(
        lambda d: estimator(d, config=tfe.RunConfig("OTHER")),
        ValueError,
        "`model_dir` are set both in constructor and `RunConfig`, but with different values. "
        "In constructor: '{dir}', in `RunConfig`: 'OTHER' ",
    ),
    # of arguments
    "both steps": Case(
        lambda d: estimator(d).train(linear_input_fn, steps=1, max_steps=1),
        ValueError,
        "Can not provide both steps and max_steps.",
    ),
    **{
        f"{name} {value}": Case(
            lambda d, name=name, value=value: estimator(d).train(linear_input_fn, **{name: value}),  # type: ignore[misc]
            ValueError,
            f"Must specify {name} > 0, given: {value}",
        )
        for name in ("steps", "max_steps")
        for value in (0, -1)
    },
    "eval steps": Case(
        lambda d: estimator(d).evaluate(linear_input_fn, steps=0), ValueError, "Must specify steps > 0, given: 0"
    ),
    **{
        f"{name} hooks": Case(call, TypeError, "Hooks must be a SessionRunHook, given: 1")
        for name, call in {
            "train": lambda d: estimator(d).train(linear_input_fn, hooks=[1]),
            "eval": lambda d: estimator(d).evaluate(linear_input_fn, hooks=[1]),
            "predict": lambda d: next(estimator(d).predict(linear_input_fn, hooks=[1])),
        }.items()
    },
    "listeners": Case(
        lambda d: estimator(d).train(linear_input_fn, saving_listeners=[1]),
        TypeError,
        "saving_listeners must be a list of CheckpointSaverListener, given: 1",
    ),
    "listeners of no hook": Case(
        lambda d: estimator(d, config=tfe.RunConfig(save_checkpoints_secs=None)).train(
            linear_input_fn, saving_listeners=[_v1.train.CheckpointSaverListener()]
        ),
        ValueError,
        NO_SAVER_HOOK,
    ),
    # of the input
    "input_fn 3": Case(lambda d: estimator(d).train(3), TypeError, "unsupported callable"),  # type: ignore[arg-type]
    "a Dataset": Case(lambda d: estimator(d).train(features()), TypeError, "unsupported callable"),
    "a triple": Case(lambda d: estimator(d).train(lambda: Dataset.from_tensors((1, 2, 3))), ValueError, PAIR),
    "a tuple of one": Case(lambda d: estimator(d).train(lambda: (tf.constant(1),)), ValueError, PAIR),
    "labels for none": Case(
        lambda d: estimator(d, without_labels).train(linear_input_fn),
        ValueError,
        "model_fn does not take labels, but input_fn returns labels.",
    ),
    "a feature missing": Case(
        lambda d: estimator(d).train(lambda: Dataset.from_tensors(({"z": [1.0]}, [1.0]))), KeyError, "'x'"
    ),
    "labels of another shape": Case(
        lambda d: estimator(d).train(lambda: Dataset.from_tensors(({"x": [1.0, 2.0]}, [1.0, 2.0, 3.0]))),
        ValueError,
        "Dimensions must be equal, but are 2 and 3 for '{{node sub}} = Sub[T=DT_FLOAT](mul, IteratorGetNext:1)' with "
        "input shapes: [2], [3].",
    ),
    # of what the model_fn returns
    "None": Case(
        lambda d: estimator(d, returns(lambda mode: None)).train(linear_input_fn),
        ValueError,
        "model_fn should return an EstimatorSpec.",
    ),
    "no train_op": Case(
        lambda d: estimator(d, returns(lambda mode: tfe.EstimatorSpec(mode, loss=tf.constant(1.0)))).train(
            linear_input_fn
        ),
        ValueError,
        "Missing train_op.",
    ),
    "no loss": Case(
        lambda d: estimator(d, returns(tfe.EstimatorSpec)).evaluate(linear_input_fn),
        ValueError,
        "Missing loss.",
    ),
    "no predictions": Case(
        lambda d: next(estimator(d, returns(tfe.EstimatorSpec)).predict(linear_input_fn)),
        ValueError,
        "Missing predictions.",
    ),
    "metric loss": Case(
        lambda d: estimator(d, metric("loss")).evaluate(linear_input_fn), ValueError, A_METRIC.format(name='"loss"')
    ),
    "metric global_step": Case(
        lambda d: estimator(d, metric("global_step")).evaluate(linear_input_fn),
        ValueError,
        A_METRIC.format(name="`global_step`"),
    ),
    "NaN": Case(
        lambda d: estimator(d).train(lambda: Dataset.from_tensors(({"x": [1.0]}, [np.nan]))),
        _v1.train.NanLossDuringTrainingError,
        "NaN loss during training.",
    ),
    # of predict
    "predict key": Case(
        lambda d: next(estimator(d).predict(linear_input_fn, predict_keys=["nope"])),
        ValueError,
        "Expected to run at least one output from dict_keys(['y']), provided ['nope'].",
    ),
    "predict keys of no dict": Case(
        lambda d: next(estimator(d, predicts(lambda x: x)).predict(features, predict_keys=["a"])),
        ValueError,
        "predict_keys argument is not valid in case of non-dict predictions.",
    ),
    "predictions of unequal lengths": Case(
        lambda d: next(estimator(d, predicts(lambda x: {"a": x, "b": tf.concat([x, x], 0)})).predict(features)),
        ValueError,
        "Batch length of predictions should be same. b has different batch length than others.",
    ),
    # of checkpoints
    "no checkpoint to read": Case(
        lambda d: estimator(d).get_variable_names(),
        ValueError,
        "Could not find trained model in model_dir: {dir}.",
    ),
    "no checkpoint to export": Case(
        lambda d: estimator(d).export_saved_model(str(d / "export"), lambda: None),
        ValueError,
        "Couldn't find trained model at {dir}.",
    ),
    "no such checkpoint": Case(
        lambda d: estimator(d).evaluate(linear_input_fn, checkpoint_path="/nonexist/model.ckpt-1"),
        CheckpointPathError,  # a ValueError, as the original's
        "The passed save_path is not a valid checkpoint: /nonexist/model.ckpt-1",
    ),
    # of attributes
    "export_savedmodel": Case(
        lambda d: estimator(d).export_savedmodel,
        AttributeError,
        "`Estimator.export_savedmodel` has been deprecated. Please use `export_saved_model` instead.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_error_has_the_type_and_the_text_of_the_original_and_leaves_nothing_behind(
    tmp_path: Path, name: str
) -> None:
    case, model_dir = CASES[name], tmp_path / "model"

    with pytest.raises(case.error) as caught:
        case.call(model_dir)

    assert type(caught.value) is case.error
    assert str(caught.value) == case.message.replace("{dir}", str(model_dir)).replace("{{node sub}}", "{{node sub}}")
    assert not [path for path in tmp_path.rglob("*") if "ckpt" in path.name or path.name == "checkpoint"]


@pytest.mark.parametrize("task_type", ["evaluator", "ps"])
def test_a_task_that_does_not_train_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_type: str) -> None:
    cluster = '{"chief": ["a:1"], "ps": ["b:1"]}'
    monkeypatch.setenv("TF_CONFIG", f'{{"cluster": {cluster}, "task": {{"type": "{task_type}", "index": 0}}}}')

    with pytest.raises(ValueError, match=r"^Train has been called wrong configuration\. Please use") as caught:
        estimator(tmp_path).train(linear_input_fn)

    shown = re.sub(r"<.*>", "{config}", str(caught.value))
    assert shown == NOT_TRAINING


def test_labels_of_another_shape_at_run_time_are_an_error_of_the_step(tmp_path: Path) -> None:
    signature = ({"x": tf.TensorSpec([None])}, tf.TensorSpec([None]))

    def input_fn() -> tf.data.Dataset:
        return Dataset.from_generator(lambda: iter([({"x": [1.0, 2.0]}, [1.0, 2.0, 3.0])]), output_signature=signature)

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Incompatible shapes: \[2\] vs. \[3\]"):
        estimator(tmp_path).train(input_fn)
