"""Which arguments a function of the user takes by name."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["argument_names"]

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def argument_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the arguments that a caller can still give to a model_fn or an input_fn.

    As in tf.estimator, those that a functools.partial has bound are not among them, nor are `*args` and `**kwargs`.

    Raises:
        TypeError: It cannot be called.
    """
    if not callable(function):
        raise TypeError("unsupported callable")
    bound = function.keywords if isinstance(function, functools.partial) else {}
    parameters = inspect.signature(function).parameters.values()
    return tuple(each.name for each in parameters if each.kind in _NAMED and each.name not in bound)
