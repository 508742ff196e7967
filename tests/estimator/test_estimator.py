"""What an Estimator takes and refuses: model_fn, model_dir, arguments, inputs."""

import functools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.errors import ModelDirError
from runner.estimator import v1 as tf1
from tests.estimator.data import (
    FEATURES,
    classifier,
    linear_input_fn,
    linear_model_fn,
    steps_of,
    train_input_fn,
)


def test_a_temporary_model_dir_is_made_and_logged(info_log: pytest.LogCaptureFixture) -> None:
    estimator = tfe.Estimator(linear_model_fn, params={})

    assert Path(estimator.model_dir).is_dir()
    assert f"Using temporary folder as model directory: {estimator.model_dir}" in info_log.messages
    assert info_log.messages[0] == "Using default config."
    assert info_log.messages[-1].startswith(f"Using config: {{'_model_dir': '{estimator.model_dir}', '_tf_random_seed'")
    Path(estimator.model_dir).rmdir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 1, "max_steps": 1}, "Can not provide both steps and max_steps."),
        ({"steps": 0}, "Must specify steps > 0, given: 0"),
        ({"max_steps": -1}, "Must specify max_steps > 0, given: -1"),
    ],
)
def test_impossible_steps_are_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        classifier(tmp_path).train(train_input_fn, **arguments)


def test_things_that_are_no_hooks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Hooks must be a SessionRunHook, given: 1"):
        classifier(tmp_path).train(train_input_fn, hooks=[1])
    with pytest.raises(TypeError, match="saving_listeners must be a list of CheckpointSaverListener, given: 1"):
        classifier(tmp_path).train(train_input_fn, saving_listeners=[1])


def test_a_model_fn_is_checked_when_the_estimator_is_made(tmp_path: Path) -> None:
    def without_features(labels: Any) -> None: ...
    def without_params(features: Any) -> None: ...
    def with_more(features: Any, more: Any) -> None: ...

    for model_fn, params, message in [
        (None, None, "model_fn must be provided to Estimator."),
        (without_features, None, "must include features argument"),
        (without_params, {"a": 1}, "does not include params argument, but params ({'a': 1}) is passed to Estimator."),
        (with_more, None, "has following not expected args: ['more']"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            tfe.Estimator(model_fn, str(tmp_path), params=params)  # type: ignore[arg-type]


def test_arguments_that_are_bound_or_variadic_are_not_given_to_a_model_fn(tmp_path: Path) -> None:
    given: list[Any] = []

    def more(features: Any, labels: Any, mode: str, extra: int) -> tfe.EstimatorSpec:
        given.append(extra)
        return linear_model_fn(features, labels, mode, {})

    def bound(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> tfe.EstimatorSpec:
        given.append(params)
        return linear_model_fn(features, labels, mode, params)

    def variadic(features: Any, labels: Any, mode: str, *args: Any, **kwargs: Any) -> tfe.EstimatorSpec:
        given.append((args, kwargs))
        return linear_model_fn(features, labels, mode, {})

    for model_fn in (functools.partial(more, extra=1), functools.partial(bound, params={"scale": 2.0}), variadic):
        tfe.Estimator(model_fn, str(tmp_path)).train(linear_input_fn, steps=1)

    assert given == [1, {"scale": 2.0}, ((), {})]
    with pytest.raises(ValueError, match="does not include params argument"):
        tfe.Estimator(functools.partial(bound, params={}), str(tmp_path), params={"scale": 1.0})


class Model:
    """What can be called to make a model, in all the ways in which a class offers that."""

    def __call__(self, features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        return linear_model_fn(features, labels, mode, {})

    def method(self, features: Any, labels: Any = None, *, mode: str) -> tfe.EstimatorSpec:
        return linear_model_fn(features, labels, mode, {})

    @classmethod
    def of_class(cls, features: Any, labels: Any, mode: str, config: tfe.RunConfig) -> tfe.EstimatorSpec:
        assert config.tf_random_seed == 5
        return linear_model_fn(features, labels, mode, {})

    @staticmethod
    def static(mode: str, labels: Any, features: Any) -> tfe.EstimatorSpec:
        return linear_model_fn(features, labels, mode, {})


@pytest.mark.parametrize("model_fn", [Model(), Model().method, Model.of_class, Model.static])
def test_objects_and_methods_are_model_fns(tmp_path: Path, model_fn: Any) -> None:
    estimator = tfe.Estimator(model_fn, str(tmp_path), tfe.RunConfig(tf_random_seed=5))

    estimator.train(linear_input_fn, steps=1)

    assert estimator.evaluate(linear_input_fn)["global_step"] == 1
    assert len(list(estimator.predict(linear_input_fn))) == 20


def test_what_an_estimator_shows_of_itself_are_copies(tmp_path: Path) -> None:
    params: dict[str, Any] = {"scale": 1.0, "layers": {"units": [1]}}
    estimator = tfe.Estimator(linear_model_fn, str(tmp_path), params=params)

    params["layers"]["units"].append(2)
    estimator.params["layers"]["units"].append(3)
    estimator.config.session_config.log_device_placement = True

    assert estimator.params == {"scale": 1.0, "layers": {"units": [1]}}
    assert not estimator.config.session_config.log_device_placement
    for name in ("config", "model_dir", "model_fn", "params"):
        with pytest.raises(AttributeError):
            setattr(estimator, name, None)


def test_the_model_fn_of_an_estimator_is_bound_to_its_params(tmp_path: Path) -> None:
    model_fn = tfe.Estimator(linear_model_fn, str(tmp_path), params={"scale": 3.0}).model_fn

    with tf.Graph().as_default():
        tf.compat.v1.train.create_global_step()
        spec = model_fn({"x": tf.constant([1.0])}, tf.constant([1.0]), "eval", tfe.RunConfig())
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            assert session.run(spec.loss) == 3.0
    assert model_fn.__name__ == "public_model_fn"


def test_a_subclass_may_say_which_checkpoint_is_its_latest(tmp_path: Path) -> None:
    class Elsewhere(tfe.Estimator):
        def latest_checkpoint(self) -> str:
            return "elsewhere"

    estimator = Elsewhere(linear_model_fn, str(tmp_path), params={})

    # As in the original, that is for those who ask the estimator: it does not ask itself.
    assert estimator.latest_checkpoint() == "elsewhere"
    assert estimator.train(linear_input_fn, max_steps=1).evaluate(linear_input_fn)["global_step"] == 1


def test_an_input_fn_that_shards_its_data_is_evaluated_and_predicted_whole(tmp_path: Path) -> None:
    def input_fn(input_context: tf.distribute.InputContext) -> tf.data.Dataset:
        return linear_input_fn().shard(input_context.num_input_pipelines, input_context.input_pipeline_id)

    estimator = tfe.Estimator(linear_model_fn, str(tmp_path), params={})
    estimator.train(input_fn, steps=1)

    assert estimator.evaluate(input_fn)["global_step"] == 1
    assert len(list(estimator.predict(input_fn))) == 20


@pytest.mark.parametrize(("name", "quoted"), [("loss", '"loss"'), ("global_step", "`global_step`")])
def test_a_metric_under_a_name_of_the_estimator_is_refused(tmp_path: Path, name: str, quoted: str) -> None:
    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        spec = linear_model_fn(features, labels, mode, {})
        return spec._replace(eval_metric_ops={name: tf.compat.v1.metrics.mean(spec.loss)})

    with pytest.raises(ValueError, match=f"^Metric with name {quoted} is not allowed, because Estimator already"):
        tfe.Estimator(model_fn, str(tmp_path)).evaluate(linear_input_fn)


def test_a_model_fn_that_returns_something_else_is_an_error(tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any) -> Any:
        return None

    with pytest.raises(ValueError, match=r"^model_fn should return an EstimatorSpec\.$"):
        tfe.Estimator(model_fn, str(tmp_path)).train(linear_input_fn)


def test_two_model_dirs_and_urls_that_cannot_be_trained_in_are_refused(tmp_path: Path) -> None:
    config = tfe.RunConfig(model_dir=str(tmp_path / "a"))

    with pytest.raises(ValueError, match="`model_dir` are set both in constructor and `RunConfig`"):
        tfe.Estimator(linear_model_fn, str(tmp_path / "b"), config=config, params={})
    with pytest.raises(ModelDirError, match="nope"):
        tfe.Estimator(linear_model_fn, "nope://models/iris", params={})


def test_a_url_and_a_home_directory_name_a_model_dir_that_training_goes_on_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    for model_dir in ("file://" + str(tmp_path / "model"), "~/model", "model"):
        estimator = tfe.Estimator(linear_model_fn, model_dir, params={})
        estimator.train(linear_input_fn, steps=1)

    assert os.listdir(tmp_path) == ["model"]
    assert steps_of(tmp_path / "model") == [1, 2, 3]
    assert tfe.Estimator(linear_model_fn, "~/model", params={}).config.model_dir == str(tmp_path / "model")
    assert estimator.model_dir == "model"


def test_a_distribution_strategy_is_refused_and_not_ignored(tmp_path: Path) -> None:
    config = tfe.RunConfig(train_distribute=object())

    with pytest.raises(ValueError, match="train over several tasks instead"):
        tfe.Estimator(linear_model_fn, str(tmp_path), config=config, params={})


def test_features_alone_are_an_input(tmp_path: Path) -> None:
    features = {name: tf.constant([[1.0]]).numpy() for name in FEATURES}

    prediction = next(classifier(tmp_path).predict(lambda: tf.data.Dataset.from_tensors(features)))

    assert prediction["probabilities"].sum() == pytest.approx(1.0)


def test_predictions_without_one_are_an_error_and_not_an_endless_loop(tmp_path: Path) -> None:
    def model_fn(features: Any, mode: str) -> tfe.EstimatorSpec:
        return tfe.EstimatorSpec(mode, predictions={})

    with pytest.raises(ValueError, match=r"^Missing predictions\.$"):
        next(tfe.Estimator(model_fn, str(tmp_path)).predict(linear_input_fn))


def test_an_input_of_arrays_ends_and_is_worth_no_warning(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    input_fn = tf1.inputs.numpy_input_fn({"x": np.arange(3.0, dtype=np.float32)}, shuffle=False)

    predictions = list(tfe.Estimator(linear_model_fn, str(tmp_path), params={}).predict(input_fn))

    assert len(predictions) == 3
    assert not [record.getMessage() for record in info_log.records if "predict yields forever" in record.getMessage()]
