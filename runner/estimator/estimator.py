"""Estimator: a model_fn trained, evaluated and asked for predictions over one model_dir."""

import copy
import functools
import logging
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from runner.checkpoint.listing import latest_checkpoint, step_of
from runner.checkpoint.reading import find_checkpoint, open_checkpoint, read_newest, read_tensor
from runner.errors import CheckpointNotFoundError
from runner.estimator.arguments import (
    check_model_fn,
    check_positive,
    checked_hooks,
    checked_listeners,
    config_and_model_dir,
)
from runner.estimator.evaluation import Evaluation
from runner.estimator.export.saved_model import SavedModelExport
from runner.estimator.keras_guard import guarding_keras
from runner.estimator.model_fn import EstimatorSpec, ModeKeys
from runner.estimator.prediction import Prediction
from runner.estimator.run_config import RunConfig
from runner.estimator.signatures import argument_names
from runner.estimator.training import Training
from runner.estimator.warm_start import WarmStartSettings, settings_of

__all__ = ["Estimator"]

_logger = logging.getLogger("tensorflow")

_NOT_TRAINING = ("evaluator", "ps")


class Estimator:
    """Trains and evaluates a model whose graph a model_fn builds; a re-creation of tf.estimator.Estimator.

    All state is in model_dir: every call builds the graph anew and starts from the latest checkpoint.

    Args:
        model_fn: Takes `features`, and any of `labels`, `mode`, `params` and `config`; returns an EstimatorSpec. Layers
            are those of tf_keras, optimizers those of tf_keras.optimizers.legacy or tf.compat.v1.train: Keras 3 raises.
        model_dir: Path or URL for checkpoints and events; None means that of the config, else a temporary one.
        config: RunConfig; None means the default one.
        params: Hyper-parameters for the model_fn; copied.
        warm_start_from: WarmStartSettings, or the path of a checkpoint, of a directory with checkpoints or of a
            SavedModel, whose trainable variables are the initial ones as long as model_dir has no checkpoint.

    Raises:
        ValueError: An argument is not valid; the messages are those of the original.
        ModelDirError: Nothing installed here can open model_dir.
    """

    def __init__(
        self,
        model_fn: Callable[..., EstimatorSpec],
        model_dir: str | os.PathLike[str] | None = None,
        config: RunConfig | None = None,
        params: Mapping[str, Any] | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
    ) -> None:
        self._config, self._model_dir = config_and_model_dir(config, model_dir)
        _logger.info("Using config: %s", vars(self._config))
        check_model_fn(model_fn, params)
        self._model_fn = model_fn
        self._params = copy.deepcopy(params or {})
        self._warm_start_settings = settings_of(warm_start_from)

    @property
    def model_dir(self) -> str:
        """Where checkpoints and events are."""
        return self._model_dir

    @property
    def config(self) -> RunConfig:
        """A copy of the config."""
        return copy.deepcopy(self._config)

    @property
    def params(self) -> Any:
        """A copy of the hyper-parameters."""
        return copy.deepcopy(self._params)

    @property
    def model_fn(self) -> Callable[..., EstimatorSpec]:
        """The model_fn, bound to this estimator's params: takes features, labels, mode and config."""

        def public_model_fn(features: Any, labels: Any, mode: str, config: RunConfig) -> EstimatorSpec:
            return self._call_model_fn(features, labels, mode, config=config)

        return public_model_fn

    def train(
        self,
        input_fn: Callable[..., Any],
        hooks: Sequence[Any] | None = None,
        steps: int | None = None,
        max_steps: int | None = None,
        saving_listeners: Sequence[Any] | None = None,
    ) -> Self:
        """Trains from the latest checkpoint, or from the beginning.

        Returns when the last checkpoint is published. Under a TF_CONFIG with several tasks it is called in each of
        them: they train in lock-step, and the chief alone writes.

        Args:
            input_fn: Returns a tf.data.Dataset of (features, labels), or such tensors. May take mode, params, config
                and input_context; without input_context its batches are dealt out to the tasks.
            hooks: tf.compat.v1.train.SessionRunHook.
            steps: Train that many more steps; or
            max_steps: train up to that global_step. With neither, until the input ends.
            saving_listeners: tf.compat.v1.train.CheckpointSaverListener, told of every save.

        Returns:
            The estimator itself.

        Raises:
            ValueError: Both steps and max_steps, or one that is not positive; or this task is none that trains.
            tf.errors.InvalidArgumentError: The latest checkpoint does not fit the model; nothing was changed.
            tf.errors.NotFoundError: It lacks tensors of the model; nothing was changed.
            PeerLostError: Another task of the cluster is gone.
        """
        if self._config.task_type in _NOT_TRAINING:
            raise ValueError(
                "Train has been called wrong configuration. Please use tf.estimator.train_and_evaluate which calls "
                f"proper API according to given configuration. Current configuration: {self._config}."
            )
        if steps is not None and max_steps is not None:
            raise ValueError("Can not provide both steps and max_steps.")
        check_positive("steps", steps)
        check_positive("max_steps", max_steps)
        if max_steps is not None and self._trained_steps() >= max_steps:
            _logger.info("Skipping training since max_steps has already saved.")
            return self
        training = Training(
            model_dir=self.model_dir,
            config=self._config,
            params=self.params,
            call_model_fn=self._call_model_fn,
            input_fn=input_fn,
            hooks=checked_hooks(hooks),
            saving_listeners=checked_listeners(saving_listeners),
            steps=steps,
            max_steps=max_steps,
            warm_start_settings=self._warm_start_settings,
        )
        loss = training.run()
        _logger.info("Loss for final step: %s.", loss)
        return self

    def evaluate(
        self,
        input_fn: Callable[..., Any],
        steps: int | None = None,
        hooks: Sequence[Any] | None = None,
        checkpoint_path: str | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """Evaluates a checkpoint, and writes the metrics to `eval/` in model_dir.

        Args:
            input_fn: See `train`.
            steps: Number of batches; None means all of the input.
            hooks: tf.compat.v1.train.SessionRunHook.
            checkpoint_path: Prefix of the checkpoint; None means the latest one, or initial weights if there is none.
            name: Writes to `eval_<name>/` instead.

        Returns:
            Metrics by name, with `loss` (mean over the batches, np.float32) and `global_step` (np.int64).

        Raises:
            ValueError: steps is not positive, or there is no checkpoint at checkpoint_path.
            tf.errors.InvalidArgumentError: The checkpoint does not fit the model; nothing was changed.
        """
        check_positive("steps", steps)
        evaluation = Evaluation(
            model_dir=self.model_dir,
            config=self._config,
            params=self.params,
            call_model_fn=self._call_model_fn,
            input_fn=input_fn,
            eval_dir=self.eval_dir(name),
            hooks=checked_hooks(hooks),
            checkpoint_path=checkpoint_path or self._latest_or_warn("evaluate"),
            is_latest=not checkpoint_path,
            warm_start_settings=self._warm_start_settings,
            steps=steps,
        )
        return evaluation.run()

    def predict(
        self,
        input_fn: Callable[..., Any],
        predict_keys: Sequence[Any] | str | None = None,
        hooks: Sequence[Any] | None = None,
        checkpoint_path: str | None = None,
        yield_single_examples: bool = True,
    ) -> Generator[Any, None, None]:
        """Yields predictions; nothing runs before the first one is asked for.

        Args:
            input_fn: Returns features, or (features, labels), whose labels are not used; see `train`.
            predict_keys: Which predictions; None means all.
            hooks: tf.compat.v1.train.SessionRunHook.
            checkpoint_path: See `evaluate`.
            yield_single_examples: Yield one example at a time, not a batch.

        Yields:
            Predictions: by name as in the model_fn's dict, or the value alone if it returned a single tensor.

        Raises:
            ValueError: No such key, or predictions of unequal batch lengths.
            tf.errors.InvalidArgumentError: The checkpoint does not fit the model.
        """
        prediction = Prediction(
            model_dir=self.model_dir,
            config=self._config,
            params=self.params,
            call_model_fn=self._call_model_fn,
            input_fn=input_fn,
            predict_keys=predict_keys,
            hooks=checked_hooks(hooks),
            checkpoint_path=checkpoint_path or self._latest_or_warn("predict"),
            is_latest=not checkpoint_path,
            warm_start_settings=self._warm_start_settings,
            yield_single_examples=yield_single_examples,
        )
        yield from prediction.run()

    def export_saved_model(
        self,
        export_dir_base: str | bytes | os.PathLike[str],
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
        experimental_mode: str = ModeKeys.PREDICT,
    ) -> bytes:
        """Writes the model with the weights of a checkpoint as a SavedModel, for tf.saved_model.load or a server.

        Args:
            export_dir_base: Path or URL of a directory below which the export gets one named by the time.
            serving_input_receiver_fn: Makes a ServingInputReceiver or a TensorServingInputReceiver.
            assets_extra: Files to copy into the export: path below `assets.extra/` -> source, a path or a URL.
            as_text: Whether to write the graph as a text proto.
            checkpoint_path: Prefix of the checkpoint; None means the latest one, or that of `warm_start_from`.
            experimental_mode: One of ModeKeys: the graph to export.

        Returns:
            The directory written, `<export_dir_base>/<seconds since 1970>`, which appears whole or not at all; in a
            remote base its files come one by one, `saved_model.pb` last, and without that it is no export.

        Raises:
            ValueError: There is no checkpoint, it lacks variables of the model, or there is no receiver function.
            tf.errors.InvalidArgumentError: The checkpoint does not fit the model.
        """
        if serving_input_receiver_fn is None:
            raise ValueError("An input_receiver_fn must be defined.")
        receiver_fns = {experimental_mode: serving_input_receiver_fn}
        return self._export_all_saved_models(export_dir_base, receiver_fns, assets_extra, as_text, checkpoint_path)

    def experimental_export_all_saved_models(
        self,
        export_dir_base: str | bytes | os.PathLike[str],
        input_receiver_fn_map: Mapping[str, Callable[[], Any]],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
    ) -> bytes:
        """Writes the graphs of several modes as one SavedModel; see `export_saved_model`.

        Args:
            export_dir_base: See `export_saved_model`.
            input_receiver_fn_map: For each of the ModeKeys to export, what makes its receiver.
            assets_extra: See `export_saved_model`.
            as_text: See `export_saved_model`.
            checkpoint_path: See `export_saved_model`.

        Returns:
            See `export_saved_model`.
        """
        return self._export_all_saved_models(
            export_dir_base, input_receiver_fn_map, assets_extra, as_text, checkpoint_path
        )

    @property
    def export_savedmodel(self) -> Any:
        """Only the Estimator of tf.compat.v1 still has it."""
        raise AttributeError(
            "`Estimator.export_savedmodel` has been deprecated. Please use `export_saved_model` instead."
        )

    def eval_dir(self, name: str | None = None) -> str:
        """The directory that an evaluation of that name writes to."""
        return os.path.join(self.model_dir, f"eval_{name}" if name else "eval")

    def latest_checkpoint(self) -> str | None:
        """The prefix of the latest checkpoint in model_dir; None if there is none."""
        return latest_checkpoint(self.model_dir)

    def get_variable_names(self) -> list[str]:
        """The names of all variables in the latest checkpoint, sorted.

        Raises:
            ValueError: There is no checkpoint yet.
        """
        return sorted(read_newest(self._trained(), latest=self.latest_checkpoint, read=open_checkpoint).entries)

    def get_variable_value(self, name: str) -> np.ndarray:
        """The value of a variable in the latest checkpoint.

        Raises:
            ValueError: There is no checkpoint yet.
            tf.errors.NotFoundError: The checkpoint has no such variable.
        """
        return self._value_in(self._trained(), name)

    def _trained_steps(self) -> int:
        try:
            path = latest_checkpoint(self.model_dir)
        except CheckpointNotFoundError:  # its files are not all there: the training passes over it
            path = None
        if path is None:
            return 0
        step = step_of(path)
        return int(self._value_in(path, tf.compat.v1.GraphKeys.GLOBAL_STEP)) if step is None else step

    def _value_in(self, path: str, name: str) -> Any:
        read = functools.partial(read_tensor, name=name)
        try:
            return read_newest(path, latest=self.latest_checkpoint, read=read)
        except KeyError as error:
            raise tf.errors.NotFoundError(None, None, f"Key {name} not found in checkpoint") from error

    def _trained(self) -> str:
        if (path := latest_checkpoint(self.model_dir)) is None:
            raise ValueError(f"Could not find trained model in model_dir: {self.model_dir}.")
        return path

    def _export_all_saved_models(
        self,
        export_dir_base: str | bytes | os.PathLike[str],
        receiver_fns: Mapping[str, Callable[[], Any]],
        assets_extra: Mapping[str, str] | None,
        as_text: bool,
        checkpoint_path: str | None,
        strip_default_attrs: bool = True,
    ) -> bytes:
        export = SavedModelExport(
            model_dir=self.model_dir,
            config=self._config,
            call_model_fn=self._call_model_fn,
            receiver_fns=receiver_fns,
            checkpoint_path=checkpoint_path or self._latest_or_warm_start(),
            assets_extra=assets_extra,
            as_text=as_text,
            strip_default_attrs=strip_default_attrs,
        )
        return export.run(export_dir_base)

    def _latest_or_warm_start(self) -> str:
        path = self.latest_checkpoint()
        if path is None and self._warm_start_settings is not None:
            path = find_checkpoint(self._warm_start_settings.ckpt_to_initialize_from)
        if path is None:
            raise ValueError(f"Couldn't find trained model at {self.model_dir}.")
        return path

    def _latest_or_warn(self, purpose: str) -> str | None:
        path = latest_checkpoint(self.model_dir)
        if path is None:
            _logger.info(
                "Could not find trained model in model_dir: %s, running initialization to %s.", self.model_dir, purpose
            )
        return path

    def _call_model_fn(
        self, features: Any, labels: Any, mode: str, *, config: RunConfig | None = None
    ) -> EstimatorSpec:
        takes = argument_names(self._model_fn)
        available = {"labels": labels, "mode": mode, "params": self.params, "config": config or self.config}
        if "labels" not in takes and labels is not None:
            raise ValueError("model_fn does not take labels, but input_fn returns labels.")
        _logger.info("Calling model_fn.")
        with guarding_keras():
            spec = self._model_fn(
                features=features, **{name: value for name, value in available.items() if name in takes}
            )
        _logger.info("Done calling model_fn.")
        if not isinstance(spec, EstimatorSpec):
            raise ValueError("model_fn should return an EstimatorSpec.")  # noqa: TRY004 - as the original
        return spec
