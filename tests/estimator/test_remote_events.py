"""Events of a directory that TensorFlow cannot open, and of the hooks that write into it."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.checkpoint.evaluations import EVALUATIONS, read_evaluations
from runner.estimator.events import EventFile, EventHistory, remote_writers, write_graph_text
from runner.estimator.hooks.early_stopping import read_eval_metrics
from runner.estimator.hooks.outputs import check_outputs
from runner.estimator.session import HookedSession
from runner.storage.directory import Directory
from runner.storage.urls import open_directory
from tests.estimator.data import linear_input_fn, linear_model_fn
from tests.estimator.events import events_in, scalars_in

v1 = tf.compat.v1


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4()}/model"


@pytest.fixture
def directory(url: str) -> Directory:
    return open_directory(url)


def summary(value: float, tag: str = "loss") -> Any:
    return v1.Summary(value=[v1.Summary.Value(tag=tag, simple_value=value)])


def run_steps(make_hooks: Callable[[Any], list[Any]], steps: int) -> None:
    """Counts global_step up under the hooks, which are made of the op that gives a scalar `loss` of that value."""
    with tf.Graph().as_default():
        step = v1.train.create_global_step()
        train_op = step.assign_add(1)
        hooks = make_hooks(v1.summary.scalar("loss", tf.cast(train_op, tf.float32)))
        for hook in hooks:
            hook.begin()
        session = v1.Session()
        session.run(step.initializer)
        with HookedSession(session, hooks) as hooked:
            for _ in range(steps):
                hooked.run(train_op)


def test_the_writer_has_the_whole_interface_of_a_file_writer(url: str, directory: Directory) -> None:
    with tf.Graph().as_default() as graph, EventFile(url) as events:
        tf.constant(1, name="one")
        writer = events.writer
        writer.add_graph(graph)
        writer.add_meta_graph(v1.train.export_meta_graph())
        writer.add_session_log(v1.SessionLog(status=v1.SessionLog.START), 1)
        writer.add_summary(summary(0.5), 1)
        writer.add_summary(summary(0.25).SerializeToString(), 2)
        writer.add_run_metadata(v1.RunMetadata(), "run", 2)
        writer.add_event(v1.Event(step=3, summary=summary(0.125)))
        writer.flush()
        assert writer.get_logdir() == url
        assert isinstance(writer, v1.summary.FileWriter)
    with pytest.warns(UserWarning, match="closed FileWriter. The operation will be a noop"):
        writer.add_summary(summary(9.0), 9)
    writer.reopen()
    writer.add_summary(summary(0.0625), 4)
    writer.close()

    kinds = [event.WhichOneof("what") for event in events_in(directory)]
    assert kinds == [
        "file_version",
        "graph_def",
        "meta_graph_def",
        "session_log",
        "summary",
        "summary",
        "tagged_run_metadata",
        "summary",
        "file_version",
        "summary",
    ]
    assert scalars_in(directory, "loss") == {1: 0.5, 2: 0.25, 3: 0.125, 4: 0.0625}


def test_hooks_that_write_summaries_share_the_file_of_the_training(url: str, directory: Directory) -> None:
    def hooks(summary_op: Any) -> list[Any]:
        return [
            v1.train.SummarySaverHook(save_steps=2, output_dir=url, summary_op=summary_op),
            v1.train.StepCounterHook(every_n_steps=2, output_dir=url),
        ]

    with remote_writers(), EventFile(url) as events:
        events.writer.add_summary(summary(0.0), 0)
        run_steps(hooks, 5)

    assert scalars_in(directory, "loss") == {0: 0.0, 1: 1.0, 3: 3.0, 5: 5.0}
    assert [*scalars_in(directory, "global_step/sec")] == [3, 5]
    assert len(directory.list()) == 1


def test_hooks_may_write_to_other_urls_and_to_local_paths(url: str, directory: Directory, tmp_path: Path) -> None:
    def hooks(summary_op: Any) -> list[Any]:
        return [
            v1.train.SummarySaverHook(save_steps=2, output_dir=output_dir, summary_op=summary_op)
            for output_dir in (f"{url}/eval", str(tmp_path))
        ]

    with remote_writers():
        with remote_writers():
            run_steps(hooks, 3)
        v1.summary.FileWriterCache.get(f"{url}/eval").add_summary(summary(7.0), 7)
        v1.summary.FileWriterCache.get(str(tmp_path)).close()

    assert scalars_in(open_directory(f"{url}/eval"), "loss") == {1: 1.0, 3: 3.0, 7: 7.0}
    assert read_eval_metrics(str(tmp_path)) == {1: {"loss": 1.0}, 3: {"loss": 3.0}}
    assert v1.summary.FileWriterCache._cache.keys() >= {str(tmp_path)}
    assert f"{url}/eval" not in v1.summary.FileWriterCache._cache


def test_a_cache_that_a_user_cleared_meanwhile_is_fine(url: str, directory: Directory) -> None:
    with remote_writers(), EventFile(url) as events:
        events.writer.add_summary(summary(1.0), 1)
        v1.summary.FileWriterCache.clear()

    assert scalars_in(directory, "loss") == {1: 1.0}


def test_a_hook_whose_files_tensorflow_opens_is_refused(url: str, tmp_path: Path) -> None:
    with remote_writers(), tf.Graph().as_default():
        profiler = v1.train.ProfilerHook(save_steps=1, output_dir=url)
        local_profiler = v1.train.ProfilerHook(save_steps=1, output_dir=str(tmp_path))

    with pytest.raises(ValueError, match=r"ProfilerHook cannot write its timelines to memory://.*/timeline-\{\}\.json"):
        check_outputs([profiler])
    with pytest.raises(ValueError, match=r"CheckpointSaverHook cannot save to s3://b/m/model\.ckpt: .* Leave it out"):
        check_outputs([v1.train.CheckpointSaverHook("s3://b/m", save_steps=1)])
    check_outputs([local_profiler, v1.train.CheckpointSaverHook(str(tmp_path), save_steps=1)])


def test_the_text_of_a_graph_is_the_same_everywhere(url: str, directory: Directory, tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        v1.train.create_global_step()
    write_graph_text(f"{tmp_path}/graph.pbtxt", graph)

    write_graph_text(f"{url}/graph.pbtxt", graph)

    assert directory.read_bytes("graph.pbtxt") == (tmp_path / "graph.pbtxt").read_bytes()


def test_metrics_of_evaluations_are_read_from_a_url(url: str, directory: Directory) -> None:
    for step in (20, 10):
        with EventFile(f"{url}/eval") as events:
            events.writer.add_summary(summary(step / 100, "accuracy"), step)
            events.writer.add_summary(summary(step / 10), step)

    assert read_eval_metrics(f"{url}/eval") == {
        10: {"accuracy": pytest.approx(0.1), "loss": 1.0},
        20: {"accuracy": pytest.approx(0.2), "loss": 2.0},
    }
    assert read_eval_metrics(f"{url}/eval_none") == {}


def test_a_pattern_names_files_below_a_url(url: str, directory: Directory) -> None:
    for folder in ("eval", "eval_test", "eval/deeper", "other/eval"):
        with EventFile(f"{url}/{folder}") as events:
            events.writer.add_summary(summary(float(len(folder))), 1)
    directory.write_bytes("eval/notes.txt", b"")

    def found(pattern: str) -> list[float]:
        return [values["loss"] for _, values in EventHistory(url, pattern).results()]

    assert found("eval/*.tfevents.*") == [4.0]
    assert found("eval*/*.tfevents.*") == [4.0, 9.0]
    assert found("*/eval/*.tfevents.*") == [10.0]
    assert found(f"{url}/eval_test/*.tfevents.*") == [9.0]
    assert found("none/*.tfevents.*") == []


def test_an_event_file_is_read_again_only_when_it_has_changed(url: str, directory: Directory) -> None:
    with EventFile(url) as events:
        events.writer.add_summary(summary(1.0), 1)
    history = EventHistory(url, "*.tfevents.*")
    first = [*history.results()]
    (name,) = [entry.name for entry in directory.list()]
    whole = directory.read_bytes(name)

    directory.write_bytes(name, whole + whole)
    second = [*history.results()]
    directory.write_bytes(name, whole[:-1])
    third = [*history.results()]

    assert [len(results) for results in (first, second, third)] == [1, 2, 0]


def test_early_stopping_follows_evaluations_on_a_url(url: str) -> None:
    estimator = tfe.Estimator(lambda features, labels, mode: None, url)  # type: ignore[arg-type,return-value]
    hook = tfe.experimental.stop_if_lower_hook(estimator, "loss", 0.5, run_every_secs=None, run_every_steps=1)
    should_stop = hook._should_stop_fn

    before = should_stop()
    with EventFile(estimator.eval_dir()) as events:
        events.writer.add_summary(summary(0.25), 10)

    assert not before
    assert should_stop()


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_the_metrics_of_a_checkpoint_are_recorded_beside_it(kind: str, url: str, tmp_path: Path) -> None:
    trained = tfe.Estimator(linear_model_fn, str(tmp_path / "model"), params={}).train(linear_input_fn, steps=3)
    model_dir = str(tmp_path / "model")
    if kind == "memory":
        for path in Path(model_dir).glob("*ckpt-3.*"):
            open_directory(url).write_bytes(path.name, path.read_bytes())
        model_dir = url
    estimator = tfe.Estimator(linear_model_fn, model_dir, params={})

    metrics = estimator.evaluate(linear_input_fn, checkpoint_path=f"{model_dir}/model.ckpt-3")
    estimator.evaluate(linear_input_fn, checkpoint_path=f"{model_dir}/model.ckpt-3", name="holdout")
    tfe.Estimator(linear_model_fn, str(tmp_path / "other"), params={}).evaluate(
        linear_input_fn, checkpoint_path=trained.latest_checkpoint()
    )

    directory = open_directory(model_dir)
    assert read_evaluations(directory) == {"model.ckpt-3": {"loss": pytest.approx(metrics["loss"])}}
    assert [entry.name for entry in directory.list(EVALUATIONS, recursive=True)] == [
        f"{EVALUATIONS}/{name}/model.ckpt-3.json" for name in ("eval", "eval_holdout")
    ]
    assert read_evaluations(open_directory(str(tmp_path / "other"))) == {}
