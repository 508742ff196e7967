"""What a model_fn may put into its graph and its EstimatorSpec, and what becomes of it: as the real library does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.data import linear_input_fn, steps_of

_v1 = tf.compat.v1

Extra = Callable[..., dict[str, Any]]
"""(mode, weight) -> further fields of the EstimatorSpec."""


def make(model_dir: Path, extra: Extra, **config: Any) -> tfe.Estimator:
    """A linear model with something more."""

    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        weight = _v1.get_variable("weight", [], initializer=_v1.zeros_initializer())
        predictions = weight * features["x"]
        fields: dict[str, Any] = {"predictions": {"y": predictions}}
        if mode != tfe.ModeKeys.PREDICT:
            fields["loss"] = tf.reduce_mean(tf.square(predictions - labels))
            optimizer = _v1.train.GradientDescentOptimizer(0.01)
            fields["train_op"] = optimizer.minimize(fields["loss"], _v1.train.get_global_step())
        return tfe.EstimatorSpec(mode, **{**fields, **extra(mode, weight)})

    return tfe.Estimator(model_fn, str(model_dir), tfe.RunConfig(**config))


def summaries(directory: Path) -> set[tuple[int, str]]:
    (path,) = directory.glob("events.*")
    events = _v1.train.summary_iterator(str(path))
    return {(event.step, value.tag) for event in events for value in event.summary.value}


class Hook(tf.compat.v1.train.SessionRunHook):
    """Notes what it is told."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told

    def begin(self) -> None:
        self.told.append(f"{self.name} begin")

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.told.append(f"{self.name} run")

    def end(self, session: Any) -> None:
        self.told.append(f"{self.name} end")


class Log(tf.compat.v1.train.SessionRunHook):
    """Logs a line after every step."""

    def __init__(self, line: str) -> None:
        self.line = line

    def after_run(self, run_context: Any, run_values: Any) -> None:
        tf.get_logger().info(self.line)


def test_hooks_of_the_spec_are_told_in_their_mode_and_in_the_order_of_the_original(tmp_path: Path) -> None:
    told: list[str] = []

    def extra(mode: str, weight: Any) -> dict[str, Any]:
        names = ("training_hooks", "training_chief_hooks", "evaluation_hooks", "prediction_hooks")
        return {name: [Hook(name.removesuffix("_hooks"), told)] for name in names}

    def told_by(call: Callable[[], Any]) -> list[str]:
        told.clear()
        call()
        return [" ".join(told[index : index + 3]) for index in range(0, len(told), 3)] if len(told) % 3 == 0 else told

    estimator = make(tmp_path, extra)
    user = Hook("user", told)

    assert told_by(lambda: estimator.train(linear_input_fn, hooks=[user], steps=1)) == [
        "training_chief begin user begin training begin",
        "training_chief run user run training run",
        "training_chief end user end training end",
    ]
    assert told_by(lambda: estimator.evaluate(linear_input_fn, hooks=[user], steps=1)) == [
        "user begin evaluation begin user run",
        "evaluation run user end evaluation end",
    ]
    assert told_by(lambda: list(estimator.predict(lambda: linear_input_fn().take(1), hooks=[user]))) == [
        "user begin prediction begin user run",
        "prediction run user end prediction end",
    ]


def test_the_loss_is_logged_between_the_hooks_of_the_caller_and_those_of_the_spec(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    estimator = make(tmp_path, lambda mode, weight: {"training_hooks": [Log("of the spec")]})

    estimator.train(linear_input_fn, hooks=[Log("of the caller")], steps=1)

    lines = [record.getMessage() for record in info_log.records]
    caller, spec = lines.index("of the caller"), lines.index("of the spec")
    assert [line.split(" = ")[0] for line in lines[caller + 1 : spec]] == ["loss"]


def test_the_steps_of_an_evaluation_are_logged_between_the_hooks_of_the_caller_and_those_of_the_spec(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    estimator = make(tmp_path, lambda mode, weight: {"evaluation_hooks": [Log("of the spec")]})

    estimator.evaluate(linear_input_fn, hooks=[Log("of the caller")], steps=2)

    lines = [record.getMessage() for record in info_log.records]
    first = lines.index("of the caller")
    assert lines[first : first + 6] == [
        *("of the caller", "Evaluation [1/2]", "of the spec"),
        *("of the caller", "Evaluation [2/2]", "of the spec"),
    ]


def test_a_seed_draws_the_initial_values_that_it_drew_in_the_original(tmp_path: Path) -> None:
    def model_fn(features: Any, mode: str) -> tfe.EstimatorSpec:
        _v1.get_variable("drawn", [2], initializer=_v1.random_uniform_initializer())
        train_op = _v1.assign_add(_v1.train.get_global_step(), 1)
        return tfe.EstimatorSpec(mode, loss=tf.reduce_sum(features), train_op=train_op)

    estimator = tfe.Estimator(model_fn, str(tmp_path), tfe.RunConfig(tf_random_seed=7))

    estimator.train(lambda: tf.data.Dataset.from_tensors([1.0]), steps=1)

    assert estimator.get_variable_value("drawn") == pytest.approx([0.75372851, 0.07793760])  # by TensorFlow 2.15


def test_a_hook_of_the_spec_may_stop_the_training(tmp_path: Path) -> None:
    class Stop(tf.compat.v1.train.SessionRunHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            run_context.request_stop()

    make(tmp_path, lambda mode, weight: {"training_hooks": [Stop()]}).train(linear_input_fn)

    assert steps_of(tmp_path) == [1]


def test_listeners_go_to_a_checkpoint_hook_that_the_model_fn_brings(tmp_path: Path) -> None:
    saved: list[int] = []

    class Listener(tf.compat.v1.train.CheckpointSaverListener):
        def after_save(self, session: Any, global_step_value: int) -> None:
            saved.append(int(global_step_value))

    def extra(mode: str, weight: Any) -> dict[str, Any]:
        return {"training_hooks": [_v1.train.CheckpointSaverHook(str(tmp_path), save_steps=2)]}

    estimator = make(tmp_path, extra, save_checkpoints_secs=None)
    estimator.train(linear_input_fn, saving_listeners=[Listener()], steps=3)

    assert saved == [0, 2, 3]


def test_init_fn_has_the_last_word_on_initial_weights_and_none_on_restored_ones(tmp_path: Path) -> None:
    called: list[Any] = []

    def extra(mode: str, weight: Any) -> dict[str, Any]:
        def init_fn(scaffold: Any, session: Any) -> None:
            called.append(scaffold)
            weight.load(2.0, session)

        return {"scaffold": _v1.train.Scaffold(copy_from_scaffold=_v1.train.Scaffold(init_fn=init_fn))}

    estimator = make(tmp_path, extra)

    estimator.train(linear_input_fn, steps=1)
    estimator.train(linear_input_fn, steps=1)

    assert len(called) == 1
    assert estimator.get_variable_value("weight") == 2.0  # which is where the loss is 0


def test_initial_values_may_be_fed(tmp_path: Path) -> None:
    def extra(mode: str, weight: Any) -> dict[str, Any]:
        fed = _v1.placeholder(tf.float32, [])
        _v1.get_variable("fed", initializer=fed)
        init_op = _v1.global_variables_initializer()
        return {"scaffold": _v1.train.Scaffold(init_op=init_op, init_feed_dict={fed: 3.0})}

    estimator = make(tmp_path, extra)

    estimator.train(linear_input_fn, steps=1)

    assert estimator.get_variable_value("fed") == 3.0


def test_a_local_init_op_runs_in_every_mode_and_metrics_start_anew_beside_it(tmp_path: Path) -> None:
    def extra(mode: str, weight: Any) -> dict[str, Any]:
        collections = [_v1.GraphKeys.LOCAL_VARIABLES]
        local = _v1.get_variable("local", [], initializer=_v1.zeros_initializer(), collections=collections)
        fields: dict[str, Any] = {"scaffold": _v1.train.Scaffold(local_init_op=tf.group(local.assign(9.0)))}
        if mode == tfe.ModeKeys.EVAL:
            fields["eval_metric_ops"] = {"local": (local, tf.no_op()), "two": _v1.metrics.mean(2.0)}
        if mode == tfe.ModeKeys.PREDICT:
            fields["predictions"] = {"y": tf.reshape(local, [1])}
        return fields

    estimator = make(tmp_path, extra)

    estimator.train(linear_input_fn, steps=1)
    metrics = estimator.evaluate(linear_input_fn, steps=1)

    assert (metrics["local"], metrics["two"]) == (9.0, 2.0)
    assert next(estimator.predict(linear_input_fn)) == {"y": 9.0}
    assert estimator.get_variable_names() == ["global_step", "weight"]


@pytest.mark.parametrize("place", ["scaffold", "collection"])
def test_a_saver_of_the_model_fn_says_what_is_saved_and_kept(tmp_path: Path, place: str) -> None:
    def extra(mode: str, weight: Any) -> dict[str, Any]:
        _v1.get_variable("more", [], initializer=_v1.ones_initializer(), collections=[_v1.GraphKeys.LOCAL_VARIABLES])
        saver = _v1.train.Saver({"w": weight, "global_step": _v1.train.get_global_step()}, max_to_keep=1)
        if place == "scaffold":
            return {"scaffold": _v1.train.Scaffold(saver=saver)}
        _v1.add_to_collection(_v1.GraphKeys.SAVERS, saver)
        return {}

    estimator = make(tmp_path, extra)

    estimator.train(linear_input_fn, steps=2)

    assert steps_of(tmp_path) == [2]
    assert estimator.get_variable_names() == ["global_step", "w"]
    assert estimator.evaluate(linear_input_fn, steps=1)["global_step"] == 2


def test_a_model_that_is_never_ready_is_an_error_that_names_why_and_closes_its_session(tmp_path: Path) -> None:
    sessions: list[Any] = []

    def extra(mode: str, weight: Any) -> dict[str, Any]:
        scaffold = _v1.train.Scaffold(
            init_fn=lambda scaffold, session: sessions.append(session), ready_op=tf.constant(["weight"])
        )
        return {"scaffold": scaffold}

    for call in ("train", "evaluate"):
        with pytest.raises(RuntimeError, match=r"(?s)did not make model ready.*not initialized: weight$"):
            getattr(make(tmp_path, extra), call)(linear_input_fn)

    assert len(sessions) == 2
    for session in sessions:
        with pytest.raises(RuntimeError, match="Attempted to use a closed Session"):
            session.run([])
    assert not [path for path in tmp_path.iterdir() if path.name != ".runner"]


def test_a_hook_that_fails_with_the_session_closes_it(tmp_path: Path) -> None:
    sessions: list[Any] = []

    class Failing(tf.compat.v1.train.SessionRunHook):
        def after_create_session(self, session: Any, coord: Any) -> None:
            sessions.append(session)
            raise KeyError("by the hook")

    estimator = make(tmp_path, lambda mode, weight: {})
    for call in (estimator.train, estimator.evaluate, lambda *args, **kwargs: next(estimator.predict(*args, **kwargs))):
        with pytest.raises(KeyError, match="by the hook"):
            call(linear_input_fn, hooks=[Failing()])

    for session in sessions:
        with pytest.raises(RuntimeError, match="Attempted to use a closed Session"):
            session.run([])


def test_tables_are_initialized_in_every_mode(tmp_path: Path) -> None:
    def extra(mode: str, weight: Any) -> dict[str, Any]:
        initializer = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1.0, 2.0])
        value = tf.lookup.StaticHashTable(initializer, 0.0).lookup(tf.constant(["b"]))
        if mode == tfe.ModeKeys.PREDICT:
            return {"predictions": value}
        return {"eval_metric_ops": {"b": (value[0], tf.no_op())}, "train_op": tf.group(weight.assign(value[0]))}

    estimator = make(tmp_path, extra)

    estimator.train(lambda: linear_input_fn().take(1))

    assert estimator.get_variable_value("weight") == 2.0
    assert estimator.evaluate(linear_input_fn, steps=1)["b"] == 2.0
    assert next(estimator.predict(linear_input_fn)) == 2.0


def test_summaries_of_the_model_fn_are_written_while_it_trains_with_the_loss(tmp_path: Path) -> None:
    def extra(mode: str, weight: Any) -> dict[str, Any]:
        _v1.summary.scalar("mine", weight)
        _v1.summary.histogram("histogram", tf.ones([2]) * weight)
        return {}

    estimator = make(tmp_path, extra, save_summary_steps=2)

    estimator.train(linear_input_fn, steps=4)
    estimator.evaluate(linear_input_fn, steps=1)

    assert summaries(tmp_path) == {(step, tag) for step in (1, 3) for tag in ("histogram", "loss", "mine")}
    assert summaries(tmp_path / "eval") == {(4, "checkpoint_path"), (4, "loss")}


def test_a_summary_called_loss_is_the_only_one_and_a_summary_op_of_the_scaffold_the_only_one_run(
    tmp_path: Path,
) -> None:
    def loss(mode: str, weight: Any) -> dict[str, Any]:
        _v1.summary.scalar("loss", weight)
        return {}

    def summary_op(mode: str, weight: Any) -> dict[str, Any]:
        return {"scaffold": _v1.train.Scaffold(summary_op=_v1.summary.scalar("only", weight))}

    make(tmp_path / "a", loss).train(linear_input_fn, steps=2)
    make(tmp_path / "b", summary_op).train(linear_input_fn, steps=2)

    assert summaries(tmp_path / "a") == {(1, "loss")}
    assert summaries(tmp_path / "b") == {(1, "only")}


def test_a_metric_may_be_an_array_or_a_summary(tmp_path: Path) -> None:
    def extra(mode: str, weight: Any) -> dict[str, Any]:
        image = _v1.summary.image("image", tf.ones([2, 3, 3, 1]), collections=[])
        return {"eval_metric_ops": {"array": (tf.constant([1.0, 2.0]), tf.no_op()), "shown": (image, tf.no_op())}}

    metrics = make(tmp_path, extra).evaluate(linear_input_fn, steps=1)

    (path,) = (tmp_path / "eval").iterdir()
    events = _v1.train.summary_iterator(str(path))
    written = {value.tag: value for event in events for value in event.summary.value}
    assert set(written) == {"array", "loss", "shown/0", "shown/1"}
    assert tf.make_ndarray(written["array"].tensor).tolist() == metrics["array"].tolist() == [1.0, 2.0]
    assert (written["shown/0"].image.height, written["shown/1"].image.width) == (3, 3)


def test_input_fn_and_model_fn_find_the_seed_and_the_global_step_in_the_graph(tmp_path: Path) -> None:
    seen: list[tuple[str, int, str]] = []

    def note(where: str) -> None:
        seen.append((where, _v1.get_default_graph().seed, _v1.train.get_global_step().op.name))

    def input_fn() -> tf.data.Dataset:
        note("input_fn")
        return linear_input_fn()

    def extra(mode: str, weight: Any) -> dict[str, Any]:
        note(mode)
        return {}

    estimator = make(tmp_path, extra, tf_random_seed=7)
    estimator.train(input_fn, steps=1)
    estimator.evaluate(input_fn, steps=1)
    next(estimator.predict(input_fn))

    assert seen == [(where, 7, "global_step") for mode in ("train", "eval", "infer") for where in ("input_fn", mode)]


def test_a_model_dir_that_was_moved_goes_on(tmp_path: Path) -> None:
    make(tmp_path / "before", lambda mode, weight: {}).train(linear_input_fn, steps=2)
    (tmp_path / "before").rename(tmp_path / "after")

    make(tmp_path / "after", lambda mode, weight: {}).train(linear_input_fn, steps=2)

    assert steps_of(tmp_path / "after") == [1, 2, 3, 4]
    assert not (tmp_path / "before").exists()


def test_features_and_labels_may_be_nested(tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        weight = _v1.get_variable("weight", [], initializer=_v1.ones_initializer())
        loss = tf.reduce_mean(weight * features["a"]["b"][0] - labels["c"])
        train_op = _v1.train.GradientDescentOptimizer(0.1).minimize(loss, _v1.train.get_global_step())
        return tfe.EstimatorSpec(mode, loss=loss, train_op=train_op)

    element = ({"a": {"b": ([3.0], [0.0])}}, {"c": [1.0]})
    estimator = tfe.Estimator(model_fn, str(tmp_path))

    assert estimator.evaluate(lambda: tf.data.Dataset.from_tensors(element))["loss"] == 2.0
    assert estimator.evaluate(lambda: tf.nest.map_structure(tf.constant, element), steps=1)["loss"] == 2.0
