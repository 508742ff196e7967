"""Each hook of the SessionRunHook family does in a training what it is there for."""

import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.data import linear_input_fn, linear_model_fn, steps_of
from tests.estimator.events import scalars


def model_fn(features: Any, labels: Any, mode: str, params: Any) -> tfe.EstimatorSpec:
    """The linear model, with names for what hooks look at: `seen` is the scale, which can be fed, and `the_loss`."""
    scale = tf.compat.v1.placeholder_with_default(1.0, [], name="scale")
    spec = linear_model_fn(features, labels, mode, {"scale": scale * params.get("scale", 1.0)})
    tf.identity(scale, name="seen")
    if spec.loss is not None:
        tf.identity(spec.loss, name="the_loss")
    return spec


def train(model_dir: Path, *hooks: Any, params: Any = None, **options: Any) -> tfe.Estimator:
    """Ten steps, unless the options say otherwise."""
    config = tfe.RunConfig(save_checkpoints_steps=options.pop("save_checkpoints_steps", 100), log_step_count_steps=100)
    estimator = tfe.Estimator(model_fn, str(model_dir), config, params=params or {})
    return estimator.train(linear_input_fn, hooks=hooks, **options)


def lines(info_log: pytest.LogCaptureFixture, start: str) -> list[str]:
    return [message for message in info_log.messages if message.startswith(start)]


def assert_every(interval: int, steps: list[int]) -> None:
    """Hooks of TensorFlow may read global_step before or after the update of the same run: one step more or less."""
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert len(gaps) >= 2
    assert all(abs(gap - interval) <= 1 for gap in gaps), steps


def test_logging_tensor_hook_logs_every_n_steps_and_at_the_end(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    every = tfe.LoggingTensorHook({"every": "seen"}, every_n_iter=4)
    at_end = tfe.LoggingTensorHook(["seen:0"], at_end=True)

    train(tmp_path, every, at_end)

    assert [line.partition(" (")[0] for line in lines(info_log, "every")] == ["every = 1.0"] * 3  # at 1, 5 and 9
    assert lines(info_log, "seen:0") == ["seen:0 = 1.0"]


def test_logging_tensor_hook_formats_with_exact_values(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    def show(values: dict[str, Any]) -> str:
        return f"LOSS {values['the_loss']:.6f}"

    train(tmp_path, tfe.LoggingTensorHook(["the_loss"], every_n_iter=1, formatter=show))

    # The error of the weight, 2 - w, halves in every step; the loss is 2.5 times its square.
    assert lines(info_log, "LOSS") == [f"LOSS {2.5 * (2 * 0.5**step) ** 2:.6f}" for step in range(10)]


@pytest.mark.parametrize(("options", "last"), [({"num_steps": 3}, 5), ({"last_step": 4}, 4)])
def test_stop_at_step_hook_ends_the_training(tmp_path: Path, options: dict[str, int], last: int) -> None:
    train(tmp_path, steps=2)

    estimator = train(tmp_path, tfe.StopAtStepHook(**options))

    assert estimator.get_variable_value("global_step") == last


def test_checkpoint_saver_hook_saves_to_a_directory_of_its_own(tmp_path: Path) -> None:
    class Listener(tfe.CheckpointSaverListener):
        def __init__(self) -> None:
            self.saved: list[int] = []

        def after_save(self, session: Any, global_step_value: int) -> None:
            self.saved.append(int(global_step_value))

    listener = Listener()
    hook = tfe.CheckpointSaverHook(str(tmp_path / "own"), save_steps=4, listeners=[listener])

    train(tmp_path / "model", hook)

    assert listener.saved == steps_of(tmp_path / "own") == [0, 4, 8, 10]
    assert steps_of(tmp_path / "model") == []
    assert tf.train.load_variable(str(tmp_path / "own"), "weight") == pytest.approx(2.0, abs=0.01)


def test_step_counter_hook_writes_the_step_rate(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    train(tmp_path / "model", tfe.StepCounterHook(every_n_steps=3, output_dir=str(tmp_path / "rate")))

    tf.compat.v1.summary.FileWriterCache.clear()  # the hook itself does not flush
    rates = scalars(tmp_path / "rate", "global_step/sec")
    assert_every(3, [1, *rates])
    assert all(rate > 0 for rate in rates.values())
    assert len(lines(info_log, "global_step/sec: ")) == len(rates)


def test_nan_tensor_hook_ends_the_training_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(tfe.NanLossDuringTrainingError, match=r"^NaN loss during training\.$"):
        train(tmp_path, params={"scale": float("nan")})


def test_nan_tensor_hook_may_end_it_without_one(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    class WithNan(tfe.SessionRunHook):
        def begin(self) -> None:
            step = tf.compat.v1.train.get_global_step()
            self.hook = tfe.NanTensorHook(tf.where(step >= 4, float("nan"), 1.0), fail_on_nan_loss=False)

        def before_run(self, run_context: Any) -> Any:
            return self.hook.before_run(run_context)

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.hook.after_run(run_context, run_values)

    estimator = train(tmp_path, WithNan())

    assert estimator.get_variable_value("global_step") in (4, 5)  # it may read the step before or after the update
    assert "Model diverged with loss = NaN." in info_log.messages


def test_summary_saver_hook_writes_the_summary_it_is_given(tmp_path: Path) -> None:
    class Summary(tfe.SessionRunHook):
        """Makes the summary in the graph, and passes all on."""

        def begin(self) -> None:
            with tf.name_scope("mine"):
                summary = tf.compat.v1.summary.scalar(
                    "seen", tf.compat.v1.get_default_graph().get_tensor_by_name("seen:0")
                )
            self.hook = tfe.SummarySaverHook(save_steps=4, output_dir=str(tmp_path / "own"), summary_op=summary)
            self.hook.begin()

        def before_run(self, run_context: Any) -> Any:
            return self.hook.before_run(run_context)

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.hook.after_run(run_context, run_values)

        def end(self, session: Any) -> None:
            self.hook.end(session)

    train(tmp_path / "model", Summary())

    values = scalars(tmp_path / "own", "mine/seen")
    assert set(values.values()) == {1.0}
    assert min(values) == 1
    assert_every(4, [*values])


def test_global_step_waiter_hook_waits_for_the_step(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    class Other(tfe.SessionRunHook):
        """Counts the step up while the training waits, as another task would."""

        def begin(self) -> None:
            self._assign = tf.compat.v1.train.get_global_step().assign(6)

        def after_create_session(self, session: Any, coord: Any) -> None:
            self.thread = threading.Thread(target=session.run, args=(self._assign,))
            threading.Timer(0.2, self.thread.start).start()

    other = Other()
    start = time.monotonic()

    estimator = train(tmp_path, other, tfe.GlobalStepWaiterHook(6), max_steps=8)

    other.thread.join()
    assert time.monotonic() - start >= 0.2
    assert "Waiting for global step 6 before starting training." in info_log.messages
    assert estimator.get_variable_value("weight") == pytest.approx(1.5)  # two steps from 6 to 8


def test_final_ops_hook_holds_the_last_values(tmp_path: Path) -> None:
    class Final(tfe.SessionRunHook):
        def begin(self) -> None:
            (weight,) = tf.compat.v1.trainable_variables()
            self.hook = tfe.FinalOpsHook({"weight": weight.read_value(), "step": tf.compat.v1.train.get_global_step()})

        def end(self, session: Any) -> None:
            self.hook.end(session)

    final = Final()

    train(tmp_path, final, steps=2)

    assert final.hook.final_ops_values == {"weight": pytest.approx(1.5), "step": 2}


def test_feed_fn_hook_feeds_every_run(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    values = iter([0.0, 1.0, 0.0])

    estimator = train(
        tmp_path,
        tfe.FeedFnHook(lambda: {"scale:0": next(values)}),
        tfe.LoggingTensorHook(["seen"], every_n_iter=1),
        steps=3,
    )

    assert [line.split()[2] for line in lines(info_log, "seen")] == ["0.0", "1.0", "0.0"]
    assert estimator.get_variable_value("weight") == pytest.approx(1.0)  # one step of three counts


def test_two_hooks_that_feed_the_same_tensor_are_refused(tmp_path: Path) -> None:
    def feed() -> dict[str, float]:
        return {"scale:0": 1.0}

    with pytest.raises(RuntimeError, match=r"^Same tensor is fed by two hooks\. Conflict\(s\): \['scale:0'\]$"):
        train(tmp_path, tfe.FeedFnHook(feed), tfe.FeedFnHook(feed))


def test_profiler_hook_writes_timelines(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    with tf.Graph().as_default():  # it opens a tf.compat.v1.summary.FileWriter, which TensorFlow 2 wants in a graph
        hook = tfe.ProfilerHook(save_steps=4, output_dir=str(tmp_path))

    train(tmp_path / "model", hook)

    steps = sorted(int(path.stem.removeprefix("timeline-")) for path in tmp_path.glob("timeline-*.json"))
    assert_every(4, [0, *steps])
    path = f"{tmp_path}/timeline-{steps[0]}.json"
    events = json.loads(Path(path).read_text())["traceEvents"]
    assert any("GradientDescent" in event.get("args", {}).get("name", "") for event in events)
    assert f"Saving timeline for {steps[0]} into '{path}'." in info_log.messages


def test_second_or_step_timer_times_a_hook_by_steps_or_seconds(tmp_path: Path) -> None:
    class Timed(tfe.SessionRunHook):
        def __init__(self, **interval: float) -> None:
            self.timer = tfe.SecondOrStepTimer(**interval)
            self.triggered: list[int] = []

        def before_run(self, run_context: Any) -> Any:
            return tfe.SessionRunArgs(tf.compat.v1.train.get_global_step())

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.runs = getattr(self, "runs", 0) + 1
            if self.timer.should_trigger_for_step(self.runs):
                self.timer.update_last_triggered_step(self.runs)
                self.triggered.append(self.runs)

    by_steps, by_secs = Timed(every_steps=4), Timed(every_secs=600)

    train(tmp_path, by_steps, by_secs)

    assert (by_steps.triggered, by_secs.triggered) == ([1, 5, 9], [1])


def test_hooks_run_in_an_evaluation_and_a_prediction(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    estimator = train(tmp_path, steps=1)

    estimator.evaluate(linear_input_fn, steps=3, hooks=[tfe.LoggingTensorHook({"eval": "seen"}, every_n_iter=2)])
    next(estimator.predict(linear_input_fn, hooks=[tfe.LoggingTensorHook({"predict": "seen"}, every_n_iter=1)]))

    assert len(lines(info_log, "eval = 1.0")) == 2
    assert len(lines(info_log, "predict = 1.0")) == 1


def test_listeners_need_a_checkpoint_hook(tmp_path: Path) -> None:
    config = tfe.RunConfig(save_checkpoints_steps=None, save_checkpoints_secs=None)
    estimator = tfe.Estimator(model_fn, str(tmp_path), config, params={})

    with pytest.raises(ValueError, match=r"^There should be a CheckpointSaverHook to use saving_listeners\. Please "):
        estimator.train(linear_input_fn, saving_listeners=[tfe.CheckpointSaverListener()])


def test_a_checkpoint_hook_of_the_model_fn_tells_each_listener_once(tmp_path: Path) -> None:
    class Listener(tfe.CheckpointSaverListener):
        saved: tuple[int, ...] = ()

        def after_save(self, session: Any, global_step_value: int) -> None:
            self.saved += (int(global_step_value),)

    listener = Listener()

    def with_hook(features: Any, labels: Any, mode: str, params: Any) -> tfe.EstimatorSpec:
        hook = tfe.CheckpointSaverHook(str(tmp_path), save_steps=6, listeners=[listener])
        return linear_model_fn(features, labels, mode, params)._replace(training_hooks=[hook])

    config = tfe.RunConfig(save_checkpoints_steps=None, save_checkpoints_secs=None)
    estimator = tfe.Estimator(with_hook, str(tmp_path), config, params={})
    estimator.train(linear_input_fn, saving_listeners=[listener])

    assert listener.saved == tuple(steps_of(tmp_path)) == (0, 6, 10)


def test_a_hook_that_fetches_nothing_gets_none(tmp_path: Path) -> None:
    results = []

    class Feeding(tfe.FeedFnHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            results.append(run_values.results)

    train(tmp_path, Feeding(lambda: {"scale:0": 1.0}), steps=2)

    assert results == [None, None]


def test_a_hook_with_functions_of_its_own_is_told_of_each_run(tmp_path: Path) -> None:
    patched, mocked = tfe.SessionRunHook(), mock.Mock(spec=tfe.SessionRunHook)
    patched.after_run = mock.Mock()
    mocked.before_run.return_value = None

    train(tmp_path, patched, mocked)

    assert patched.after_run.call_count == mocked.after_run.call_count == 10


def test_keys_of_fetches_need_no_order(tmp_path: Path) -> None:
    seen = []

    class Both(tfe.SessionRunHook):
        def before_run(self, run_context: Any) -> Any:
            loss = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)[0]
            return tfe.SessionRunArgs({1: loss, "loss": loss})

        def after_run(self, run_context: Any, run_values: Any) -> None:
            seen.append(run_values.results)

    estimator = tfe.Estimator(model_fn, str(tmp_path), params={})
    estimator.train(lambda: linear_input_fn().repeat(4), hooks=[Both()])

    assert len(seen) == 40
    assert all(values[1] == values["loss"] for values in seen)


def test_a_hook_may_close_the_event_writers(tmp_path: Path) -> None:
    class Closing(tfe.SessionRunHook):
        def end(self, session: Any) -> None:
            tf.compat.v1.summary.FileWriterCache.clear()

    train(tmp_path, Closing())

    assert steps_of(tmp_path) == [1, 10]


def test_a_hook_gets_the_values_it_asked_for_as_session_run_values(tmp_path: Path) -> None:
    class Watcher(tfe.SessionRunHook):
        def before_run(self, run_context: Any) -> Any:
            assert isinstance(run_context, tfe.SessionRunContext)
            assert isinstance(run_context.original_args, tfe.SessionRunArgs)
            return tfe.SessionRunArgs({"seen": "seen:0"})

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.last = run_values

    watcher = Watcher()
    train(tmp_path, watcher)

    assert isinstance(watcher.last, tfe.SessionRunValues)
    assert watcher.last.results == {"seen": 1.0}
