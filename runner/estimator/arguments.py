"""What an Estimator is given, checked with the messages of the original before anything is built."""

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from runner.estimator.run_config import RunConfig, default_session_config
from runner.estimator.signatures import argument_names
from runner.storage.urls import resolve_model_dir

__all__ = [
    "check_arguments",
    "check_model_fn",
    "check_positive",
    "checked_hooks",
    "checked_listeners",
    "config_and_model_dir",
]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")

_MODEL_FN_ARGUMENTS = {"features", "labels", "mode", "params", "config"}


def config_and_model_dir(config: RunConfig | None, model_dir: str | os.PathLike[str] | None) -> tuple[RunConfig, str]:
    """The config, completed, and the model_dir, which the constructor or the config names.

    Raises:
        ValueError: The config is not valid, or the two name different directories.
        ModelDirError: Nothing installed here can open model_dir.
    """
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


def check_model_fn(model_fn: Callable[..., Any], params: Any) -> None:
    """Raises ValueError unless model_fn takes `features`, `params` if there are any, and nothing unknown."""
    if model_fn is None:
        raise ValueError("model_fn must be provided to Estimator.")
    names = set(argument_names(model_fn))
    if "features" not in names:
        raise ValueError(f"model_fn ({model_fn}) must include features argument.")
    if params is not None and "params" not in names:
        raise ValueError(
            f"model_fn ({model_fn}) does not include params argument, but params ({params}) is passed to Estimator."
        )
    if params is None and "params" in names:
        _logger.warning(
            "Estimator's model_fn (%s) includes params argument, but params are not passed to Estimator.", model_fn
        )
    check_arguments(model_fn, _MODEL_FN_ARGUMENTS, role="model_fn")


def check_arguments(function: Callable[..., Any], allowed: set[str], *, role: str) -> None:
    """Raises ValueError if a function takes an argument that it will not be given; `role` is what it is called."""
    if unexpected := sorted(set(argument_names(function)) - allowed):
        raise ValueError(f"{role} ({function}) has following not expected args: {unexpected}")


def check_positive(name: str, value: int | None) -> None:
    """Raises ValueError for a number of steps that is given and not positive."""
    if value is not None and value <= 0:
        raise ValueError(f"Must specify {name} > 0, given: {value}")


def checked_hooks(hooks: Sequence[Any] | None) -> list[Any]:
    """The hooks as a list.

    Raises:
        TypeError: One is no SessionRunHook.
    """
    for hook in hooks or ():
        if not isinstance(hook, _v1.train.SessionRunHook):
            raise TypeError(f"Hooks must be a SessionRunHook, given: {hook}")
    return list(hooks or ())


def checked_listeners(listeners: Sequence[Any] | None) -> list[Any]:
    """The saving listeners as a list.

    Raises:
        TypeError: One is no CheckpointSaverListener.
    """
    for listener in listeners or ():
        if not isinstance(listener, _v1.train.CheckpointSaverListener):
            raise TypeError(f"saving_listeners must be a list of CheckpointSaverListener, given: {listener}")
    return list(listeners or ())
