"""The Estimator of tf.compat.v1.estimator: the current one, and the older name of its export."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from runner.estimator import estimator as current
from runner.estimator.model_fn import ModeKeys

__all__ = ["Estimator"]

_logger = logging.getLogger("tensorflow")


class Estimator(current.Estimator):
    """Trains and evaluates a model whose graph a model_fn builds; see runner.estimator.Estimator."""

    def export_savedmodel(
        self,
        export_dir_base: str | bytes | os.PathLike[str],
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
        strip_default_attrs: bool = False,
    ) -> bytes:
        """Exports the model for serving; the older name of export_saved_model.

        Args:
            export_dir_base: See export_saved_model, as for the next four.
            serving_input_receiver_fn: Returns a ServingInputReceiver.
            assets_extra: Files to copy, by their path under `assets.extra`.
            as_text: Whether to write the graph as text.
            checkpoint_path: Prefix of the checkpoint; None means the latest one.
            strip_default_attrs: Whether attributes that have their default are left out, which older TensorFlow may
                need; export_saved_model always does.

        Returns:
            The directory of the export, as bytes.

        Raises:
            ValueError: There is no checkpoint, or no receiver function.
        """
        _logger.warning("export_savedmodel is the older name of export_saved_model, and will not stay for ever.")
        if serving_input_receiver_fn is None:
            raise ValueError("An input_receiver_fn must be defined.")
        return self._export_all_saved_models(
            export_dir_base,
            {ModeKeys.PREDICT: serving_input_receiver_fn},
            assets_extra,
            as_text,
            checkpoint_path,
            strip_default_attrs=strip_default_attrs,
        )
