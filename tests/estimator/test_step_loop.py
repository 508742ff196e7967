"""Steps that no hook waits for pass none, and nobody can tell from what is logged, written or raised."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.estimator.hooks.training_hooks import StopHook
from runner.estimator.session import HookedSession
from runner.estimator.step_loop import StepLoop
from tests.estimator.data import classifier, linear_model_fn, steps_of, train_input_fn
from tests.estimator.test_fused_steps import training

_v1 = tf.compat.v1


class EveryStep(tf.compat.v1.train.SessionRunHook):
    """A hook that asks for tensors at each step."""

    def begin(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def before_run(self, run_context: Any) -> Any:
        loss = _v1.get_collection(_v1.GraphKeys.LOSSES)[0]
        return _v1.train.SessionRunArgs({"loss": loss, "step": _v1.train.get_global_step()})

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.seen.append((int(run_values.results["step"]), float(run_values.results["loss"])))


def events_of(model_dir: Path) -> list[tuple[int, list[str]]]:
    """Steps and tags of what was written to the event file, without what depends on the clock."""
    (path,) = model_dir.glob("events.out.tfevents.*")
    return [
        (event.step, [f"{value.tag} {value.simple_value}" for value in event.summary.value if "/sec" not in value.tag])
        for event in _v1.train.summary_iterator(str(path))
    ]


def lines(info_log: pytest.LogCaptureFixture) -> list[str]:
    """The log without paths, times and rates."""
    messages = [record.getMessage() for record in info_log.records]
    return [text.split(" (")[0] for text in messages if text.startswith(("loss", "Saving", "Loss"))]


def test_a_hook_that_asks_for_tensors_gets_them_at_each_step(tmp_path: Path) -> None:
    hook = EveryStep()

    classifier(tmp_path).train(train_input_fn, hooks=[hook], max_steps=150)

    assert [step for step, _ in hook.seen] == sorted({step for step, _ in hook.seen})
    assert len(hook.seen) == 150


def test_a_run_without_hooks_of_its_own_logs_and_writes_the_same_as_one_with_them(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    hook = EveryStep()
    config: dict[str, Any] = {"save_checkpoints_steps": 70, "save_summary_steps": 30, "log_step_count_steps": 40}

    classifier(tmp_path / "hooked", **config).train(train_input_fn, hooks=[hook], max_steps=150)
    with_hook = [line.replace(str(tmp_path / "hooked"), "") for line in lines(info_log)]
    info_log.clear()
    classifier(tmp_path / "quiet", **config).train(train_input_fn, max_steps=150)
    without = [line.replace(str(tmp_path / "quiet"), "") for line in lines(info_log)]

    assert without == with_hook
    assert len([line for line in without if line.startswith("loss")]) == 4
    # A checkpoint is told of when it is published, which the training does not wait for.
    assert sorted(events_of(tmp_path / "quiet")) == sorted(events_of(tmp_path / "hooked"))
    assert steps_of(tmp_path / "quiet") == steps_of(tmp_path / "hooked") == [1, 70, 140, 150]
    weights = [tf.train.load_variable(str(tmp_path / run), "dnn/logits/kernel") for run in ("quiet", "hooked")]
    np.testing.assert_array_equal(*weights)


def test_the_last_loss_before_the_end_of_an_input_is_told(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    estimator = tfe.Estimator(linear_model_fn, str(tmp_path), params={})

    estimator.train(lambda: tf.data.Dataset.range(30).map(lambda index: ({"x": [1.0]}, [tf.cast(index, tf.float32)])))

    weight = 0.0
    for target in range(30):
        last_loss = (weight - target) ** 2
        weight -= 0.1 * 2 * (weight - target)
    assert steps_of(tmp_path) == [1, 30]
    np.testing.assert_allclose(tf.train.load_variable(str(tmp_path), "weight"), weight, rtol=1e-5)
    (line,) = [line for line in lines(info_log) if line.startswith("Loss for final step")]
    np.testing.assert_allclose(float(line.removeprefix("Loss for final step: ").rstrip(".")), last_loss, rtol=1e-5)


def test_a_loss_that_is_not_a_number_ends_the_training_at_its_step(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def generate() -> Any:
        for index in range(100):
            seen.append(index)
            yield {"x": [1.0]}, [float("nan") if index == 42 else 1.0]

    def input_fn() -> tf.data.Dataset:
        spec = ({"x": tf.TensorSpec([1])}, tf.TensorSpec([1]))
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return tf.data.Dataset.from_generator(generate, output_signature=spec).with_options(options)

    with pytest.raises(_v1.train.NanLossDuringTrainingError, match=r"NaN loss during training\."):
        tfe.Estimator(linear_model_fn, str(tmp_path), params={}).train(input_fn)

    assert seen[-1] == 42
    assert steps_of(tmp_path) == [1]
    assert "Model diverged with loss = NaN." in info_log.messages


def test_a_run_that_counts_two_steps_is_not_carried_past_a_step_that_is_due(tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> tfe.EstimatorSpec:
        spec = linear_model_fn(features, labels, mode, params)
        with tf.control_dependencies([spec.train_op]):
            return spec._replace(train_op=_v1.assign_add(_v1.train.get_global_step(), 1).op)

    config = tfe.RunConfig(save_checkpoints_steps=20)
    estimator = tfe.Estimator(model_fn, str(tmp_path), params={}, config=config)

    estimator.train(lambda: tf.data.Dataset.from_tensors(({"x": [1.0]}, [2.0])).repeat(), max_steps=50)

    assert steps_of(tmp_path) == [2, 20, 40, 50]


def test_an_error_in_a_step_names_the_line_that_made_the_operation(tmp_path: Path) -> None:
    def model_fn(features: Any, labels: Any, mode: str, params: dict[str, Any]) -> tfe.EstimatorSpec:
        return linear_model_fn(features, tf.debugging.check_numerics(1.0 / labels, "a label is 0"), mode, params)

    def input_fn() -> tf.data.Dataset:
        return tf.data.Dataset.range(60).map(lambda index: ({"x": [1.0]}, [tf.cast(40 - index, tf.float32)]))

    with pytest.raises(tf.errors.InvalidArgumentError, match="a label is 0") as caught:
        tfe.Estimator(model_fn, str(tmp_path), params={}).train(input_fn)

    assert "test_step_loop.py" in str(caught.value)


def test_a_long_training_leaves_the_same_graphs_as_a_short_one(tmp_path: Path) -> None:
    classifier(tmp_path / "short").train(train_input_fn, max_steps=2)
    classifier(tmp_path / "long").train(train_input_fn, max_steps=2000)

    metas = [
        _v1.MetaGraphDef.FromString((tmp_path / name).read_bytes())
        for name in ("short/model.ckpt-2.meta", "long/model.ckpt-2000.meta")
    ]
    assert len(metas[0].graph_def.node) == len(metas[1].graph_def.node)


def test_a_process_that_was_suspended_goes_on() -> None:
    clock = itertools.count(step=3600.0).__next__

    with training() as (session, fetches):
        last = _v1.train.FinalOpsHook(_v1.train.get_global_step())
        hooked = HookedSession(session, [StopHook(fetches["step"], steps=None, max_steps=60), last])

        StepLoop(hooked, **fetches, clock=clock).run()

    assert last.final_ops_values == 60


@pytest.mark.parametrize(("secs_per_look", "is_fused"), [(1e-6, True), (0.01, False)])
def test_many_quick_steps_are_run_many_a_call_and_slow_ones_one_by_one(*, secs_per_look: float, is_fused: bool) -> None:
    clock = itertools.count(step=secs_per_look).__next__

    with training() as (session, fetches):
        last = _v1.train.FinalOpsHook(_v1.train.get_global_step())
        hooked = HookedSession(session, [StopHook(fetches["step"], steps=None, max_steps=2000), last])
        loop = StepLoop(hooked, **fetches, clock=clock)
        loop.run()

    assert loop.is_fused == is_fused
    assert last.final_ops_values == 2000


def test_a_hook_derived_from_one_that_knows_ahead_is_told_of_each_run(tmp_path: Path) -> None:
    runs = []

    class Counting(tfe.experimental.InMemoryEvaluatorHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            super().after_run(run_context, run_values)
            runs.append(run_values.results)

    def input_fn() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(({"x": [1.0]}, [2.0])).repeat(60)

    estimator = tfe.Estimator(linear_model_fn, str(tmp_path), params={})

    estimator.train(input_fn, hooks=[Counting(estimator, input_fn, steps=1)])

    assert len(runs) == 60
