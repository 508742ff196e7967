"""The commands, answered by this package."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tf_keras

from runner import estimator as tfe
from tests.estimator.oracle import commands
from tests.estimator.oracle.models import MODELS, Custom, Library, Model

__all__ = ["ask", "with_v1_optimizer"]


def ask(do: str, model_dir: Path, *, model: str | Model | Custom = "", **arguments: Any) -> Any:
    """What a command of tests.estimator.oracle.commands returns."""
    command: Callable[..., Any] = getattr(commands, do)
    if do in ("read", "serve"):
        return command(str(model_dir))
    library = Library(tfe, None, tf_keras.optimizers.legacy)
    return command(MODELS[model] if isinstance(model, str) else model, library, str(model_dir), **arguments)


def with_v1_optimizer(name: str) -> Model:
    """The model, given an optimizer of tf.compat.v1.train here too."""
    model = MODELS[name]
    assert isinstance(model, Model)
    return replace(model, v1_optimizer=True)
