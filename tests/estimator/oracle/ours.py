"""The commands, answered by this package."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tf_keras

from runner import estimator as tfe
from runner.estimator import v1
from tests.estimator.oracle import commands
from tests.estimator.oracle.models import MODELS, Custom, Library, Model

__all__ = ["ask", "with_v1_optimizer"]


def ask(
    do: str, model_dir: Path, *, model: str | Model | Custom = "", v1_classes: bool = False, **arguments: Any
) -> Any:
    """What a command of tests.estimator.oracle.commands returns.

    Args:
        do: Name of the command.
        model_dir: Of the estimator.
        model: One of MODELS, or its name.
        v1_classes: Models of v1 are the classes of runner.estimator.v1, not the v2 classes with the same settings.
        arguments: Of the command.
    """
    command: Callable[..., Any] = getattr(commands, do)
    if do in ("read", "serve"):
        return command(str(model_dir))
    library = Library(tfe, v1 if v1_classes else None, tf_keras.optimizers.legacy)
    return command(MODELS[model] if isinstance(model, str) else model, library, str(model_dir), **arguments)


def with_v1_optimizer(name: str) -> Model:
    """The model, given an optimizer of tf.compat.v1.train here too."""
    model = MODELS[name]
    assert isinstance(model, Model)
    return replace(model, v1_optimizer=True)
