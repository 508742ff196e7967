"""What a training saves while it goes on, and what becomes of it when a save fails."""

import logging
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.checkpoint.fence import Fence
from runner.checkpoint.saving import Saves
from runner.checkpoint.writer import SaveListener, SaveOutcome
from runner.errors import ModelDirInUseError, StorageError, StoreUnavailableError
from runner.estimator.events import EventFile
from runner.estimator.hooks.checkpoint_hook import CheckpointHook, FirstSave
from runner.estimator.schedule import Schedule
from runner.storage.retry import Retry
from runner.storage.urls import open_directory
from tests.checkpoint.test_writer import largest_file
from tests.waiting import wait_until

v1 = tf.compat.v1

SAVEABLES = v1.GraphKeys.SAVEABLE_OBJECTS
WEIGHTS = 100_000


def input_fn() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(({"x": [1.0]}, [2.0])).repeat()


def model_fn(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
    """All weights are the number of steps."""
    weight = v1.get_variable("weight", [WEIGHTS], initializer=v1.zeros_initializer())
    counted = v1.assign_add(weight, tf.ones([WEIGHTS]))
    with tf.control_dependencies([counted]):
        train_op = v1.assign_add(v1.train.get_global_step(), 1)
    return tfe.EstimatorSpec(mode, loss=tf.reduce_mean(labels), train_op=train_op)


def estimator_of(model_dir: Path, **config: Any) -> tfe.Estimator:
    return tfe.Estimator(model_fn, str(model_dir), tfe.RunConfig(**{"save_checkpoints_steps": 10, **config}))


def weights(model_dir: Path) -> dict[int, set[float]]:
    """Step -> the values among the weights of its checkpoint, by TensorFlow."""
    steps = sorted(int(path.stem.rpartition("-")[2]) for path in model_dir.glob("*.index"))
    return {step: {*tf.train.load_variable(str(model_dir / f"model.ckpt-{step}"), "weight").tolist()} for step in steps}


class Watching(SaveListener, tf.compat.v1.train.SessionRunHook):
    """A hook that is told of saves, can hold them up, and can do something after a step."""

    def __init__(self, *, hold: int | None = None) -> None:
        self.saved: list[int] = []
        self.failed: list[tuple[int, Exception]] = []
        self.steps = 0
        self._hold = hold
        self.go_on = threading.Event()

    def on_saved(self, step: int) -> None:
        self.saved.append(step)
        if step == self._hold:
            assert self.go_on.wait(60)

    def on_save_failed(self, step: int, error: Exception) -> None:
        self.failed.append((step, error))

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.steps += 1
        self.after_step(run_context, self.steps)

    def after_step(self, run_context: Any, step: int) -> None:
        """To override."""


@pytest.fixture
def warnings_of() -> Iterator[list[str]]:
    """The warnings in TensorFlow's log, collected while the test runs."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Handler(logging.WARNING)
    logging.getLogger("tensorflow").addHandler(handler)
    yield found
    logging.getLogger("tensorflow").removeHandler(handler)


def test_every_checkpoint_has_the_weights_of_its_step(tmp_path: Path) -> None:
    watching = Watching()

    estimator_of(tmp_path, keep_checkpoint_max=None).train(input_fn, hooks=[watching], max_steps=95)

    steps = [1, *range(10, 91, 10), 95]
    assert weights(tmp_path) == {step: {float(step)} for step in steps}
    assert watching.saved == steps


def test_the_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    class Releasing(Watching):
        def after_step(self, run_context: Any, step: int) -> None:
            if step == 15:
                self.go_on.set()  # the save of step 10 is still in flight

    watching = Releasing(hold=10)

    estimator_of(tmp_path).train(input_fn, hooks=[watching], max_steps=40)

    assert watching.saved == [1, 10, 20, 30, 40]


def test_a_save_waits_for_the_one_in_flight(tmp_path: Path) -> None:
    watching = Watching(hold=10)
    steps: list[int] = []

    class Noting(tf.compat.v1.train.SessionRunHook):
        def after_run(self, run_context: Any, run_values: Any) -> None:
            if not watching.go_on.is_set():
                steps.append(watching.steps)
            if watching.steps == 11:
                threading.Timer(0.3, watching.go_on.set).start()

    estimator_of(tmp_path).train(input_fn, hooks=[watching, Noting()], max_steps=30)

    assert max(steps) == 19  # the hooks of step 20 come after its save
    assert watching.saved == [1, 10, 20, 30]


def test_a_schedule_of_seconds_does_not_save_while_a_save_is_in_flight(tmp_path: Path) -> None:
    class Releasing(Watching):
        def after_step(self, run_context: Any, step: int) -> None:
            if step == 500:
                self.go_on.set()

    watching = Releasing(hold=1)

    estimator_of(tmp_path, save_checkpoints_steps=None, save_checkpoints_secs=1e-6).train(
        input_fn, hooks=[watching], max_steps=510
    )

    first, second, *_ = watching.saved
    assert first == 1
    assert second > 500
    assert watching.saved[-1] == 510


def test_listeners_are_told_of_a_checkpoint_that_is_published(tmp_path: Path) -> None:
    found: list[str | None] = []

    class Listener(tf.compat.v1.train.CheckpointSaverListener):
        def after_save(self, session: Any, global_step_value: int) -> None:
            found.append(tf.train.latest_checkpoint(str(tmp_path)))

    estimator_of(tmp_path).train(input_fn, saving_listeners=[Listener()], max_steps=20)

    assert found == [str(tmp_path / f"model.ckpt-{step}") for step in (1, 10, 20)]


def test_a_save_that_fails_is_a_warning_and_the_training_goes_on(tmp_path: Path, warnings_of: list[str]) -> None:
    class Filling(Watching):
        def after_step(self, run_context: Any, step: int) -> None:
            if step == 9:
                wait_until(lambda: self.saved)
                self.limit = largest_file(300_000)
                self.limit.__enter__()
            elif self.failed and hasattr(self, "limit"):
                self.limit.__exit__(None, None, None)
                del self.limit

    watching = Filling()

    estimator_of(tmp_path, save_summary_steps=None, log_step_count_steps=None).train(
        input_fn, hooks=[watching], max_steps=1000
    )

    (failed,) = [step for step, _ in watching.failed]
    assert failed == 10
    assert watching.saved == [1, *range(20, 1001, 10)]
    (warning,) = [warning for warning in warnings_of if "could not be saved" in warning]
    assert f"The checkpoint of step 10 could not be saved into {tmp_path}/model.ckpt: " in warning
    assert weights(tmp_path)[1000] == {1000.0}


def test_the_last_save_has_to_succeed(tmp_path: Path) -> None:
    class Filling(Watching):
        def after_step(self, run_context: Any, step: int) -> None:
            if step == 5:
                wait_until(lambda: self.saved)
                limit.__enter__()

    limit = largest_file(300_000)
    try:
        with pytest.raises(StorageError, match=r"model\.ckpt-7"):
            estimator_of(tmp_path, save_summary_steps=None).train(input_fn, hooks=[Filling()], max_steps=7)
    finally:
        limit.__exit__(None, None, None)

    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-1")


def test_the_last_save_is_tried_again_while_the_store_does_not_answer(tmp_path: Path) -> None:
    class Unreachable(Saves):
        """Hears nothing of its first saves, until somebody has waited twice."""

        pauses: tuple[float, ...] = ()

        def outcomes(self) -> list[SaveOutcome]:
            found = super().outcomes()
            lost = StoreUnavailableError("no answer")
            return [replace(each, error=lost) if len(self.pauses) < 2 else each for each in found]

    def pause(secs: float) -> None:
        saves.pauses += (secs,)

    with tf.Graph().as_default(), v1.Session() as session, EventFile(str(tmp_path)) as events:
        step = v1.train.create_global_step()
        saves = Unreachable(str(tmp_path), v1.train.Saver())
        hook = CheckpointHook(
            step,
            saves=saves,
            schedule=Schedule(),
            first=FirstSave.NONE,
            listeners=(),
            events=events,
            graph_path=None,
            last_save=Retry(budget_secs=60, first_secs=5, longest_secs=30, sleep=pause, draw=max),
        )
        session.run(step.initializer)
        saves.claim()

        hook.end(session)

    assert saves.pauses == (5.0, 10.0)
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-0")


def test_a_step_that_does_not_advance_is_saved_once_and_a_warning_says_so(
    tmp_path: Path, warnings_of: list[str]
) -> None:
    def stuck(features: Any, labels: Any, mode: str) -> tfe.EstimatorSpec:
        weight = v1.get_variable("weight", [WEIGHTS], initializer=v1.zeros_initializer())
        counted = v1.assign_add(weight, tf.ones([WEIGHTS]))
        return tfe.EstimatorSpec(mode, loss=tf.reduce_mean(labels), train_op=counted.op)

    def warnings() -> list[str]:
        return [warning for warning in warnings_of if "Step 0 is saved already" in warning]

    class Ending(Watching):
        def after_step(self, run_context: Any, step: int) -> None:
            wait_until(lambda: self.saved)
            if warnings() or step == 100_000:
                run_context.request_stop()

    ending = Ending()
    often: Any = 1e-6

    tfe.Estimator(stuck, str(tmp_path), tfe.RunConfig(save_checkpoints_secs=often)).train(input_fn, hooks=[ending])

    assert ending.saved == [0]
    assert weights(tmp_path) == {0: {1.0}}
    assert warnings()


def test_a_training_whose_model_dir_is_taken_over_ends(tmp_path: Path) -> None:
    class TakingOver(Watching):
        def after_step(self, run_context: Any, step: int) -> None:
            if step == 5:
                wait_until(lambda: self.saved)  # a model_dir with nothing in it cannot be claimed
                Fence(open_directory(str(tmp_path)), owner="another").raise_()

    taking_over = TakingOver()

    with pytest.raises(ModelDirInUseError, match="another"):
        estimator_of(tmp_path).train(input_fn, hooks=[taking_over], max_steps=1000)

    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-1")
    assert 10 <= taking_over.steps <= 20


def test_an_error_in_the_training_lets_the_save_in_flight_end(tmp_path: Path) -> None:
    class Failing(Watching):
        def after_step(self, run_context: Any, step: int) -> None:
            if step == 11:
                threading.Timer(0.3, self.go_on.set).start()
                raise RuntimeError("by the hook")

    failing = Failing(hold=10)

    with pytest.raises(RuntimeError, match="by the hook"):
        estimator_of(tmp_path).train(input_fn, hooks=[failing], max_steps=1000)

    assert failing.saved == [1, 10]
    assert weights(tmp_path) == {1: {1.0}, 10: {10.0}}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint-writer")]


def test_a_second_interrupt_gives_up_the_save_that_the_first_one_waits_for(
    tmp_path: Path, info_log: pytest.LogCaptureFixture
) -> None:
    def is_waiting() -> bool:
        return any(message.startswith("Waiting for up to 60 s until") for message in info_log.messages)

    def interrupt_again() -> None:
        wait_until(is_waiting)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    class Interrupted(Watching):
        def after_step(self, run_context: Any, step: int) -> None:
            if step == 11:
                again.start()
                raise KeyboardInterrupt

    interrupted, again = Interrupted(hold=10), threading.Thread(target=interrupt_again)

    with pytest.raises(KeyboardInterrupt):
        estimator_of(tmp_path).train(input_fn, hooks=[interrupted], max_steps=1000)
    again.join()

    assert [thread for thread in threading.enumerate() if thread.name == "checkpoint-writer-10"]
    interrupted.go_on.set()
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "checkpoint-writer-10"])


def test_each_training_without_a_job_is_a_generation_of_its_own(tmp_path: Path) -> None:
    for _ in range(3):
        estimator_of(tmp_path).train(input_fn, steps=2)

    first_line = (tmp_path / "checkpoint").read_text().splitlines()[0]
    assert first_line.startswith("# runner: generation 3 local-")
    assert weights(tmp_path) == {step: {float(step)} for step in (1, 2, 3, 4, 5, 6)[-5:]}


def test_a_job_that_goes_on_saves_no_first_step(tmp_path: Path) -> None:
    for generation in (1, 2):
        saves = Saves(str(tmp_path), None, service={"job": "iris", "generation": generation})
        with tf.Graph().as_default(), v1.Session() as session:
            variable = v1.get_variable("weight", initializer=np.ones(3))
            saves = Saves(str(tmp_path), v1.train.Saver(), service={"job": "iris", "generation": generation})
            saves.claim()
            session.run(variable.initializer)
            saves.save(session, generation)

        assert saves.goes_on == (generation == 2)


def test_the_meta_graph_is_that_of_the_model(tmp_path: Path) -> None:
    server = tf.distribute.Server.create_local_server()
    with tf.Graph().as_default() as graph, v1.Session(server.target) as session:
        variable = v1.get_variable("weight", initializer=np.ones(3))
        saves = Saves(str(tmp_path), v1.train.Saver())
        session.run(variable.initializer)
        saves.claim()
        saves.prepare(session)
        tf.constant(1.0, name="added_later")

        prefix = saves.save(session, 1)

    meta = v1.MetaGraphDef.FromString(Path(f"{prefix}.meta").read_bytes())
    names = {node.name for node in meta.graph_def.node}
    assert "weight" in names
    assert "added_later" not in names
    assert not [name for name in names if name.startswith("snapshot")]
    assert [operation for operation in graph.get_operations() if operation.name.startswith("snapshot")]


def test_all_that_a_saver_saves_is_restored_by_tensorflow(tmp_path: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        whole = v1.get_variable("whole", [5, 4], partitioner=v1.fixed_size_partitioner(2))
        one = v1.get_variable("one", [5, 4], partitioner=v1.fixed_size_partitioner(1))
        reference = v1.get_variable("reference", [7], use_resource=False)
        words = v1.get_variable("words", initializer=np.array([b"a", b"\0\xff", b""], object), dtype=tf.string)
        half = v1.get_variable("half", [9], tf.bfloat16)
        table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, default_value=-1)
        iterator = v1.data.make_one_shot_iterator(tf.data.Dataset.range(10))
        saveable = tf.data.experimental.make_saveable_from_iterator(iterator)
        saver = v1.train.Saver([whole, one, reference, words, half, *v1.get_collection(SAVEABLES), saveable])
        following = iterator.get_next()
        values = [tf.convert_to_tensor(each) for each in (whole, one, reference, words, half)]
        looked_up = table.lookup(tf.constant(["x", "y"]))
        insert = table.insert(tf.constant(["x"]), [5])
        init = v1.global_variables_initializer()
        session.run([init, insert])
        session.run(following)
        expected = session.run([*values, looked_up])
        saves = Saves(str(tmp_path), saver)
        saves.claim()

        prefix = saves.save(session, 3)
        session.run(init)
        session.run([following, table.remove(tf.constant(["x"]))])
        saver.restore(session, prefix)

        for actual, value in zip(session.run([*values, looked_up]), expected, strict=True):
            np.testing.assert_array_equal(actual, value)
        assert session.run(following) == 1


def test_a_hook_of_a_subclass_saves_as_it_does_and_only_on_a_local_disk(tmp_path: Path) -> None:
    class Own(tf.compat.v1.train.CheckpointSaverHook):
        """Does what it likes."""

    local = estimator_of(tmp_path / "local")
    local.train(input_fn, hooks=[Own(str(tmp_path / "local"), save_steps=4)], max_steps=5)
    remote = tfe.Estimator(model_fn, "memory://own-hook", tfe.RunConfig())

    assert sorted(weights(tmp_path / "local")) == [0, 4, 5]
    assert not (tmp_path / "local" / "checkpoint").read_text().startswith("#")
    with pytest.raises(ValueError, match="Own cannot save a training whose model_dir is memory://own-hook"):
        remote.train(input_fn, hooks=[Own(str(tmp_path / "elsewhere"), save_steps=4)], max_steps=5)
