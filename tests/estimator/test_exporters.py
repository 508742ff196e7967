"""Exporters: which checkpoints they export, and which exports they keep."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from tests.estimator.data import linear_input_fn, linear_model_fn

receiver_fn = tfe.export.build_raw_serving_input_receiver_fn({"x": np.array([1.0, 2.0], np.float32)})


@pytest.fixture
def estimator(tmp_path: Path) -> tfe.Estimator:
    """Trained for 10 steps, with checkpoints at 1, 5 and 10, each better than the one before."""
    config = tfe.RunConfig(save_checkpoints_steps=5)
    return tfe.Estimator(linear_model_fn, str(tmp_path / "model"), config=config, params={}).train(linear_input_fn)


def export(exporter: tfe.Exporter, estimator: tfe.Estimator, result: dict[str, Any], *, final: bool = False) -> Any:
    """What `train_and_evaluate` does with an exporter after an evaluation."""
    path = Path(estimator.model_dir, "export", exporter.name)
    checkpoint = estimator.latest_checkpoint() or ""
    return exporter.export(
        estimator=estimator,
        export_path=str(path),
        checkpoint_path=checkpoint,
        eval_result=result,
        is_the_final_export=final,
    )


def evaluate(estimator: tfe.Estimator, step: int) -> dict[str, Any]:
    return estimator.evaluate(linear_input_fn, checkpoint_path=f"{estimator.model_dir}/model.ckpt-{step}")


def exports_of(exporter: tfe.Exporter, estimator: tfe.Estimator) -> list[str]:
    return sorted(path.name for path in Path(estimator.model_dir, "export", exporter.name).iterdir())


def test_an_exporter_needs_a_name_and_an_export() -> None:
    class Nameless(tfe.Exporter):
        def export(self, *args: Any, **kwargs: Any) -> None:
            return None

    with pytest.raises(TypeError, match="abstract"):
        Nameless()  # type: ignore[abstract]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: tfe.LatestExporter("a", receiver_fn, exports_to_keep=0),
            "`exports_to_keep`, if provided, must be positive number",
        ),
        (
            lambda: tfe.BestExporter("a", exports_to_keep=-1),
            "`exports_to_keep`, if provided, must be a positive number. Got -1",
        ),
        (lambda: tfe.BestExporter("a", compare_fn=None), "`compare_fn` must not be None."),  # type: ignore[arg-type]
        (
            lambda: tfe.BestExporter("a", compare_fn=lambda current_eval_result: True),
            "must include best_eval_result argument.",
        ),
        (
            lambda: tfe.BestExporter("a", compare_fn=lambda best_eval_result: True),
            "must include current_eval_result argument.",
        ),
        (
            lambda: tfe.BestExporter("a", compare_fn=lambda best_eval_result, current_eval_result, z: True),
            "has following not expected args: ['z']",
        ),
    ],
)
def test_impossible_arguments_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_the_latest_exporter_exports_every_time_as_it_was_told(estimator: tfe.Estimator, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    exporter = tfe.LatestExporter("latest", receiver_fn, {"notes.txt": str(tmp_path / "notes.txt")}, as_text=True)

    path = Path(export(exporter, estimator, {}).decode())

    assert path.parent == Path(estimator.model_dir, "export/latest")
    assert (path / "saved_model.pbtxt").exists()
    assert (path / "assets.extra/notes.txt").read_text() == "notes"


def test_only_the_newest_exports_are_kept(estimator: tfe.Estimator) -> None:
    exporter = tfe.LatestExporter("latest", receiver_fn, exports_to_keep=2)
    base = Path(estimator.model_dir, "export/latest")
    for name in ("1000000001", "1000000002", "temp-1000000003", "99999999999", "mine"):
        (base / name).mkdir(parents=True)

    path = export(exporter, estimator, {})

    newest = Path(path.decode()).name
    assert exports_of(exporter, estimator) == ["1000000002", newest, "99999999999", "mine", "temp-1000000003"]


def test_all_exports_are_kept_if_there_is_no_number(estimator: tfe.Estimator) -> None:
    exporter = tfe.LatestExporter("latest", receiver_fn, exports_to_keep=None)
    base = Path(estimator.model_dir, "export/latest")
    for number in range(10):
        (base / f"100000000{number}").mkdir(parents=True)

    export(exporter, estimator, {})

    assert len(exports_of(exporter, estimator)) == 11


def test_the_final_exporter_exports_once(estimator: tfe.Estimator, info_log: pytest.LogCaptureFixture) -> None:
    exporter = tfe.FinalExporter("final", receiver_fn)

    assert export(exporter, estimator, {}) is None
    path = export(exporter, estimator, {}, final=True)

    assert exports_of(exporter, estimator) == [Path(path.decode()).name]
    assert "Performing the final export in the end of training." in info_log.messages


def test_the_best_exporter_exports_the_first_and_each_better_one(
    estimator: tfe.Estimator, info_log: pytest.LogCaptureFixture
) -> None:
    exporter = tfe.BestExporter("best", receiver_fn)

    exported = [export(exporter, estimator, evaluate(estimator, step)) is not None for step in (5, 1, 5, 10)]

    assert exported == [True, False, False, True]
    assert len(exports_of(exporter, estimator)) == 2
    assert info_log.messages.count("Loading best metric from event files.") == 1
    assert info_log.messages.count("Performing best model export.") == 2


def test_after_a_restart_the_best_exporter_goes_on_from_the_event_files(estimator: tfe.Estimator) -> None:
    before = tfe.BestExporter("best", receiver_fn)
    first = export(before, estimator, evaluate(estimator, 5))

    after = tfe.BestExporter("best", receiver_fn)
    worse = export(after, estimator, evaluate(estimator, 1))
    better = export(after, estimator, evaluate(estimator, 10))

    assert worse is None
    assert exports_of(after, estimator) == [Path(path.decode()).name for path in (first, better)]


def test_after_a_restart_a_better_model_is_exported_though_its_evaluation_is_recorded_already(
    estimator: tfe.Estimator,
) -> None:
    export(tfe.BestExporter("best", receiver_fn), estimator, evaluate(estimator, 5))

    assert export(tfe.BestExporter("best", receiver_fn), estimator, evaluate(estimator, 10)) is not None


def test_without_event_files_the_first_after_a_restart_is_exported(estimator: tfe.Estimator) -> None:
    for step in (10, 5):
        exporter = tfe.BestExporter("best", receiver_fn, event_file_pattern=None)

        assert export(exporter, estimator, evaluate(estimator, step)) is not None


def test_what_was_evaluated_before_there_were_exports_does_not_count(estimator: tfe.Estimator) -> None:
    evaluate(estimator, 10)

    assert export(tfe.BestExporter("best", receiver_fn), estimator, evaluate(estimator, 5)) is not None


def test_an_event_file_that_ends_in_a_record_counts_up_to_there(
    estimator: tfe.Estimator, info_log: pytest.LogCaptureFixture
) -> None:
    export(tfe.BestExporter("best", receiver_fn), estimator, evaluate(estimator, 10))
    (events,) = Path(estimator.model_dir, "eval").glob("*.tfevents.*")
    with events.open("ab") as file:
        file.write(events.read_bytes()[:50] + b"\0\1")  # as if killed in the middle of a record

    assert export(tfe.BestExporter("best", receiver_fn), estimator, {"loss": 99.0, "global_step": 20}) is None
    assert f"The event file {events} ends in the middle of a record" in info_log.text


def test_what_is_best_is_for_compare_fn_to_say(estimator: tfe.Estimator) -> None:
    def more_accurate(best_eval_result: dict[str, float], current_eval_result: dict[str, float]) -> bool:
        return current_eval_result["accuracy"] > best_eval_result["accuracy"]

    exporter = tfe.BestExporter("best", receiver_fn, compare_fn=more_accurate, exports_to_keep=1)

    exported = [export(exporter, estimator, {"accuracy": accuracy}) is not None for accuracy in (0.5, 0.4, 0.6)]

    assert exported == [True, False, True]
    assert len(exports_of(exporter, estimator)) == 1


@pytest.mark.parametrize("results", [({"accuracy": 1.0}, {"loss": 1.0}), ({"loss": 1.0}, {"accuracy": 1.0})])
def test_the_smaller_loss_needs_a_loss(estimator: tfe.Estimator, results: tuple[dict[str, float], ...]) -> None:
    exporter = tfe.BestExporter("best", receiver_fn)
    export(exporter, estimator, results[0])

    which = "best" if "loss" not in results[0] else "current"
    with pytest.raises(ValueError, match=f"{which}_eval_result cannot be empty or no loss is found in it."):
        export(exporter, estimator, results[1])


def test_the_best_is_counted_anew_in_another_model_dir(estimator: tfe.Estimator, tmp_path: Path) -> None:
    other = tfe.Estimator(linear_model_fn, str(tmp_path / "other"), params={}).train(linear_input_fn, steps=1)
    exporter = tfe.BestExporter("best", receiver_fn)
    export(exporter, estimator, evaluate(estimator, 10))

    assert export(exporter, other, evaluate(other, 1)) is not None
    assert export(exporter, estimator, evaluate(estimator, 5)) is None


def test_a_failed_export_is_tried_again_for_the_same_result(estimator: tfe.Estimator) -> None:
    receiver_fns = iter([lambda: 1 / 0, receiver_fn])

    def failing_once() -> Any:
        return next(receiver_fns)()

    exporter = tfe.BestExporter("best", failing_once)
    with pytest.raises(ZeroDivisionError):
        export(exporter, estimator, {"loss": 1.0})

    assert export(exporter, estimator, {"loss": 1.0}) is not None


def test_train_and_evaluate_runs_all_of_them(tmp_path: Path, info_log: pytest.LogCaptureFixture) -> None:
    model_dir = tmp_path / "model"
    config = tfe.RunConfig(save_checkpoints_steps=5)
    estimator = tfe.Estimator(linear_model_fn, str(model_dir), config=config, params={})
    exporters = [
        tfe.LatestExporter("latest", receiver_fn),
        tfe.BestExporter("best", receiver_fn),
        tfe.FinalExporter("final", receiver_fn),
    ]
    eval_spec = tfe.EvalSpec(linear_input_fn, exporters=exporters, start_delay_secs=0, throttle_secs=0)

    result = tfe.train_and_evaluate(estimator, tfe.TrainSpec(linear_input_fn, max_steps=10), eval_spec)

    assert result is not None
    metrics, paths = result
    assert metrics == {"loss": pytest.approx(0.0, abs=1e-4), "global_step": 10}
    assert [Path(path.decode()).parent for path in paths or []] == [
        model_dir / "export" / name for name in ("latest", "best", "final")
    ]
    assert [len(exports_of(exporter, estimator)) for exporter in exporters] == [2, 2, 1]
    assert info_log.messages.count("Performing best model export.") == 2
    weights = [tf.train.load_variable(f"{path.decode()}/variables/variables", "weight") for path in paths or []]
    assert weights == [tf.train.load_variable(str(model_dir), "weight")] * 3
