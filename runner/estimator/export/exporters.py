"""Exporters: which of the evaluated checkpoints `train_and_evaluate` exports, and which exports it keeps."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from runner.estimator.evaluation import LOSS_METRIC
from runner.estimator.events import EventHistory
from runner.estimator.export.exports import exports_in
from runner.estimator.signatures import argument_names

__all__ = ["BestExporter", "Exporter", "FinalExporter", "LatestExporter"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


class Exporter(ABC):
    """Something that is exported after evaluations."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The directory of its exports below `export/` in model_dir; neither None nor empty."""

    @abstractmethod
    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: Mapping[str, Any],
        is_the_final_export: bool,
    ) -> Any:
        """Exports a checkpoint, or passes it over.

        Args:
            estimator: The Estimator.
            export_path: Directory below which the export goes.
            checkpoint_path: Prefix of the checkpoint that was evaluated.
            eval_result: What `evaluate` returned for it.
            is_the_final_export: Whether training has ended. `train_and_evaluate` does not know without max_steps.

        Returns:
            The path of the export; None if there is none.
        """


class _SavedModelExporter(Exporter):
    """What the exporters of SavedModels share: their arguments, the export itself, and the deletion of older ones."""

    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable[[], Any] | None,
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = None,
    ) -> None:
        self._name = name
        self._serving_input_receiver_fn = serving_input_receiver_fn
        self._assets_extra = assets_extra
        self._as_text = as_text
        self._exports_to_keep = exports_to_keep

    @property
    def name(self) -> str:
        """The directory of its exports below `export/` in model_dir."""
        return self._name

    def _export(self, estimator: Any, export_path: str, checkpoint_path: str) -> Any:
        result = estimator.export_saved_model(
            export_path,
            self._serving_input_receiver_fn,
            assets_extra=self._assets_extra,
            as_text=self._as_text,
            checkpoint_path=checkpoint_path,
        )
        if self._exports_to_keep is not None:
            exports_in(export_path).delete_older(keep=self._exports_to_keep)
        return result


class LatestExporter(_SavedModelExporter):
    """Exports every checkpoint that is evaluated, and keeps the newest exports.

    Args:
        name: The directory of its exports below `export/` in model_dir.
        serving_input_receiver_fn: See Estimator.export_saved_model.
        assets_extra: See Estimator.export_saved_model.
        as_text: See Estimator.export_saved_model.
        exports_to_keep: Number of exports to keep; None keeps all.

    Raises:
        ValueError: `exports_to_keep` is not positive.
    """

    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = 5,
    ) -> None:
        if exports_to_keep is not None and exports_to_keep <= 0:
            raise ValueError("`exports_to_keep`, if provided, must be positive number")
        super().__init__(name, serving_input_receiver_fn, assets_extra, as_text, exports_to_keep)

    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: Mapping[str, Any],  # noqa: ARG002 - of the interface
        is_the_final_export: bool,  # noqa: ARG002 - of the interface
    ) -> Any:
        """Exports the checkpoint; see Exporter."""
        return self._export(estimator, export_path, checkpoint_path)


class FinalExporter(_SavedModelExporter):
    """Exports once, at the end of training.

    Args:
        name: The directory of its export below `export/` in model_dir.
        serving_input_receiver_fn: See Estimator.export_saved_model.
        assets_extra: See Estimator.export_saved_model.
        as_text: See Estimator.export_saved_model.
    """

    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
    ) -> None:
        super().__init__(name, serving_input_receiver_fn, assets_extra, as_text)

    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: Mapping[str, Any],  # noqa: ARG002 - of the interface
        is_the_final_export: bool,
    ) -> Any:
        """Exports the checkpoint if it is the last one; see Exporter."""
        if not is_the_final_export:
            return None
        _logger.info("Performing the final export in the end of training.")
        return self._export(estimator, export_path, checkpoint_path)


def _loss_smaller(best_eval_result: Mapping[str, Any], current_eval_result: Mapping[str, Any]) -> bool:
    """Whether the loss of the current evaluation is less than that of the best one."""
    for name, result in (("best_eval_result", best_eval_result), ("current_eval_result", current_eval_result)):
        if not result or LOSS_METRIC not in result:
            raise ValueError(f"{name} cannot be empty or no loss is found in it.")
    return bool(best_eval_result[LOSS_METRIC] > current_eval_result[LOSS_METRIC])


class BestExporter(_SavedModelExporter):
    """Exports a checkpoint when it is better than all that were evaluated before, and keeps the newest exports.

    The first checkpoint is exported as it is. After a restart, which is known by the exports that are there already,
    a checkpoint has to be better than all others whose evaluation is in the event files.

    Args:
        name: The directory of its exports below `export/` in model_dir.
        serving_input_receiver_fn: See Estimator.export_saved_model.
        event_file_pattern: The event files of the evaluations, below model_dir; None means to know nothing of the
            evaluations before a restart, after which the first checkpoint is exported as it is.
        compare_fn: Takes `best_eval_result` and `current_eval_result`, metrics by name; returns whether the current
            one is better. By default the one with the smaller loss is. From event files it gets numbers only.
        assets_extra: See Estimator.export_saved_model.
        as_text: See Estimator.export_saved_model.
        exports_to_keep: Number of exports to keep; None keeps all.

    Raises:
        ValueError: compare_fn has other arguments, or `exports_to_keep` is not positive.
    """

    def __init__(
        self,
        name: str = "best_exporter",
        serving_input_receiver_fn: Callable[[], Any] | None = None,
        event_file_pattern: str | None = "eval/*.tfevents.*",
        compare_fn: Callable[..., bool] = _loss_smaller,
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = 5,
    ) -> None:
        if compare_fn is None:
            raise ValueError("`compare_fn` must not be None.")
        _check_compare_fn(compare_fn)
        if exports_to_keep is not None and exports_to_keep <= 0:
            raise ValueError(f"`exports_to_keep`, if provided, must be a positive number. Got {exports_to_keep}")
        super().__init__(name, serving_input_receiver_fn, assets_extra, as_text, exports_to_keep)
        self._compare_fn = compare_fn
        self._event_file_pattern = event_file_pattern
        self._model_dir: str | None = None
        self._best: Mapping[str, Any] | None = None

    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: Mapping[str, Any],
        is_the_final_export: bool,  # noqa: ARG002 - of the interface
    ) -> Any:
        """Exports the checkpoint if it is the best one; see Exporter."""
        if self._model_dir != estimator.model_dir and self._event_file_pattern:
            _logger.info("Loading best metric from event files.")
            self._model_dir = estimator.model_dir
            history = EventHistory(self._model_dir, self._event_file_pattern)
            self._best = self._best_before(eval_result, history) if exports_in(export_path).versions() else None
        if self._best is not None and not self._is_better(eval_result, than=self._best):
            return None
        _logger.info("Performing best model export.")
        result = self._export(estimator, export_path, checkpoint_path)
        self._best = eval_result
        return result

    def _best_before(self, eval_result: Mapping[str, Any], history: EventHistory) -> Mapping[str, Any] | None:
        """The best of the recorded evaluations of other checkpoints.

        The one at hand was recorded before the export; perhaps by a process that was killed in between, too.
        """
        best = None
        for step, result in history.results():
            if step != eval_result.get(_v1.GraphKeys.GLOBAL_STEP) and (
                best is None or self._is_better(result, than=best)
            ):
                best = result
        return best

    def _is_better(self, result: Mapping[str, Any], *, than: Mapping[str, Any]) -> bool:
        return self._compare_fn(best_eval_result=than, current_eval_result=result)


def _check_compare_fn(compare_fn: Callable[..., bool]) -> None:
    expected = ("best_eval_result", "current_eval_result")
    names = argument_names(compare_fn)
    for name in expected:
        if name not in names:
            raise ValueError(f"compare_fn ({compare_fn}) must include {name} argument.")
    if unexpected := [name for name in names if name not in expected]:
        raise ValueError(f"compare_fn ({compare_fn}) has following not expected args: {unexpected}")
