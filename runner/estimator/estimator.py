"""Estimator: a model_fn trained, evaluated and asked for predictions over one model_dir."""

import copy
import logging
import os
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from runner.checkpoint.listing import latest_checkpoint, step_of
from runner.estimator.evaluation import Evaluation
from runner.estimator.keras_guard import refusing_keras
from runner.estimator.model_fn import EstimatorSpec
from runner.estimator.prediction import Prediction
from runner.estimator.run_config import RunConfig, default_session_config
from runner.estimator.signatures import argument_names
from runner.estimator.training import Training
from runner.estimator.warm_start import WarmStartSettings, settings_of
from runner.storage.directory import resolve_model_dir

__all__ = ["Estimator"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")

_MODEL_FN_ARGUMENTS = {"features", "labels", "mode", "params", "config"}


class Estimator:
    """Trains and evaluates a model whose graph a model_fn builds; a re-creation of tf.estimator.Estimator.

    All state is in model_dir: every call builds the graph anew and starts from the latest checkpoint.

    Args:
        model_fn: Takes `features`, and any of `labels`, `mode`, `params` and `config`; returns an EstimatorSpec. Layers
            are those of tf_keras, optimizers those of tf_keras.optimizers.legacy or tf.compat.v1.train: Keras 3 raises.
        model_dir: Local directory for checkpoints and events; None means that of the config, else a temporary one.
        config: RunConfig; None means the default one.
        params: Hyper-parameters for the model_fn; copied.
        warm_start_from: WarmStartSettings, or the path of a checkpoint, of a directory with checkpoints or of a
            SavedModel, whose trainable variables are the initial ones as long as model_dir has no checkpoint.

    Raises:
        ValueError: An argument is not valid; the messages are those of the original.
        ModelDirError: model_dir is a URL that cannot be trained in.
    """

    def __init__(
        self,
        model_fn: Callable[..., EstimatorSpec],
        model_dir: str | os.PathLike[str] | None = None,
        config: RunConfig | None = None,
        params: Mapping[str, Any] | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
    ) -> None:
        self._config, self._model_dir = _config_and_model_dir(config, model_dir)
        _logger.info("Using config: %s", vars(self._config))
        if model_fn is None:
            raise ValueError("model_fn must be provided to Estimator.")
        _check_model_fn(model_fn, params)
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
            ValueError: Both steps and max_steps, or one that is not positive.
            tf.errors.InvalidArgumentError: The latest checkpoint does not fit the model; nothing was changed.
            tf.errors.NotFoundError: It lacks tensors of the model; nothing was changed.
            PeerLostError: Another task of the cluster is gone.
        """
        if steps is not None and max_steps is not None:
            raise ValueError("Can not provide both steps and max_steps.")
        _check_positive("steps", steps)
        _check_positive("max_steps", max_steps)
        if max_steps is not None and (step_of(self.latest_checkpoint() or "") or 0) >= max_steps:
            _logger.info("Skipping training since max_steps has already saved.")
            return self
        training = Training(
            model_dir=self.model_dir,
            config=self._config,
            params=self.params,
            call_model_fn=self._call_model_fn,
            input_fn=input_fn,
            hooks=_check_hooks(hooks),
            saving_listeners=_check_listeners(saving_listeners),
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
        _check_positive("steps", steps)
        evaluation = Evaluation(
            model_dir=self.model_dir,
            config=self._config,
            params=self.params,
            call_model_fn=self._call_model_fn,
            input_fn=input_fn,
            eval_dir=self.eval_dir(name),
            checkpoint_path=checkpoint_path or self._latest_or_warn("evaluate"),
            warm_start_settings=self._warm_start_settings,
            hooks=_check_hooks(hooks),
            steps=steps,
        )
        return evaluation.run()

    def predict(
        self,
        input_fn: Callable[..., Any],
        predict_keys: Sequence[str] | str | None = None,
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
            hooks=_check_hooks(hooks),
            checkpoint_path=checkpoint_path or self._latest_or_warn("predict"),
            warm_start_settings=self._warm_start_settings,
            yield_single_examples=yield_single_examples,
        )
        yield from prediction.run()

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
        return [name for name, _ in tf.train.list_variables(self._trained())]

    def get_variable_value(self, name: str) -> np.ndarray:
        """The value of a variable in the latest checkpoint.

        Raises:
            ValueError: There is no checkpoint yet.
            tf.errors.NotFoundError: The checkpoint has no such variable.
        """
        return tf.train.load_variable(self._trained(), name)

    def _trained(self) -> str:
        if (path := self.latest_checkpoint()) is None:
            raise ValueError(f"Could not find trained model in model_dir: {self.model_dir}.")
        return path

    def _latest_or_warn(self, purpose: str) -> str | None:
        path = self.latest_checkpoint()
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
        with refusing_keras():
            spec = self._model_fn(
                features=features, **{name: value for name, value in available.items() if name in takes}
            )
        _logger.info("Done calling model_fn.")
        if not isinstance(spec, EstimatorSpec):
            raise ValueError("model_fn should return an EstimatorSpec.")  # noqa: TRY004 - as the original
        return spec


def _config_and_model_dir(config: RunConfig | None, model_dir: str | os.PathLike[str] | None) -> tuple[RunConfig, str]:
    if config is None:
        config = RunConfig()
        _logger.info("Using default config.")
    elif not isinstance(config, RunConfig):
        raise ValueError(f"config must be an instance of `RunConfig`, but provided {config}.")
    if config.train_distribute is not None or config.eval_distribute is not None:
        raise ValueError(
            "train_distribute and eval_distribute are not used: train over several tasks instead, "
            "with workers=N of a job or with TF_CONFIG."
        )
    path = os.fspath(model_dir) if model_dir is not None else None
    if path is not None and config.model_dir is not None and path != config.model_dir:
        raise ValueError(
            "`model_dir` are set both in constructor and `RunConfig`, but with different values. "
            f"In constructor: '{path}', in `RunConfig`: '{config.model_dir}' "
        )
    path = path or config.model_dir
    if path is None:
        path = tempfile.mkdtemp()
        _logger.warning("Using temporary folder as model directory: %s", path)
    resolved = resolve_model_dir(path)
    # A relative path stays relative, as in the original. TensorFlow would take a URL or a `~` for such a path.
    if os.path.abspath(path) != resolved:
        path = resolved
    session_config = config.session_config or default_session_config()
    return config.replace(model_dir=path, session_config=session_config), path


def _check_model_fn(model_fn: Callable[..., Any], params: Any) -> None:
    names = set(argument_names(model_fn))
    if "features" not in names:
        raise ValueError(f"model_fn ({model_fn}) must include features argument.")
    if params is not None and "params" not in names:
        raise ValueError(
            f"model_fn ({model_fn}) does not include params argument, but params ({params}) is passed to Estimator."
        )
    if unexpected := sorted(names - _MODEL_FN_ARGUMENTS):
        raise ValueError(f"model_fn ({model_fn}) has following not expected args: {unexpected}")


def _check_positive(name: str, value: int | None) -> None:
    if value is not None and value <= 0:
        raise ValueError(f"Must specify {name} > 0, given: {value}")


def _check_hooks(hooks: Sequence[Any] | None) -> list[Any]:
    for hook in hooks or ():
        if not isinstance(hook, _v1.train.SessionRunHook):
            raise TypeError(f"Hooks must be a SessionRunHook, given: {hook}")
    return list(hooks or ())


def _check_listeners(listeners: Sequence[Any] | None) -> list[Any]:
    for listener in listeners or ():
        if not isinstance(listener, _v1.train.CheckpointSaverListener):
            raise TypeError(f"saving_listeners must be a list of CheckpointSaverListener, given: {listener}")
    return list(listeners or ())
