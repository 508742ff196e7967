"""Keras inside a model_fn: Keras 2 is there, and what of Keras 3 does not work in a graph is refused.

A layer of Keras 3 gives its variables no place in the graph, and its random numbers are the same at every step.
Optimizers of Keras 3, and those of tf_keras that are not legacy, return no op that updates anything; neither do metrics
of Keras 3. All of that trains without an error. Layers of Keras 3 without variables and random numbers are fine.
"""

import functools
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf
import tf_keras

__all__ = ["guarding_keras"]

_LAYER_NAMESPACES = {"tf_keras.layers": tf_keras.layers, "tf_keras": tf_keras}
_LEGACY = "tf_keras.api._v1.keras.__internal__.legacy"
_LOADERS = ((tf.compat.v1.layers, f"{_LEGACY}.layers"), (tf.compat.v1.nn.rnn_cell, f"{_LEGACY}.rnn_cell"))
"""Modules of TensorFlow that need Keras 2 and find none, and what they stood for when there was one."""

_called: ContextVar[Any] = ContextVar("called", default=None)
"""The layer of Keras 3 whose call, not one within another's, is under way."""


class _Guard:
    """Patches what all threads share while any thread needs it; refuses only in those."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: list[int] = []
        self._restore: list[Callable[[], None]] = []

    def enter(self) -> None:
        with self._lock:
            self._threads.append(threading.get_ident())
            if len(self._threads) == 1:
                self._patch(keras.Layer, "__call__", _call_without_state)
                self._patch(keras.Variable, "__init__", _make_variable)
                self._patch(keras.random.SeedGenerator, "next", _refuse_random_numbers)
                for name in ("__init__", "__call__"):
                    self._patch(keras.Metric, name, _refuse_metric)
                for name in ("apply", "apply_gradients"):
                    self._patch(keras.optimizers.Optimizer, name, _refuse_optimizer)
                self._patch(tf_keras.optimizers.Optimizer, "apply_gradients", _refuse_optimizer)
                for loader, module in _LOADERS:
                    self._fill(loader, module)

    def leave(self) -> None:
        with self._lock:
            self._threads.remove(threading.get_ident())
            while self._restore and not self._threads:
                self._restore.pop()()

    def _patch(self, cls: Any, name: str, replacement: Callable[..., Any]) -> None:
        """Has `replacement(original, instance, ...)` called for `instance.name(...)` in the threads that entered."""
        original = getattr(cls, name)

        @functools.wraps(original)
        def method(instance: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() in self._threads:
                return replacement(original, instance, *args, **kwargs)
            return original(instance, *args, **kwargs)

        is_own = name in vars(cls)
        setattr(cls, name, method)
        self._restore.append(lambda: setattr(cls, name, original) if is_own else delattr(cls, name))

    def _fill(self, loader: Any, module: str) -> None:
        """Gives a lazy loader the names of a module: those are found before it tries to load anything."""
        public = {name: value for name, value in vars(importlib.import_module(module)).items() if name[0] != "_"}
        names = [name for name in public if name not in vars(loader)]
        vars(loader).update((name, public[name]) for name in names)

        def empty() -> None:
            for name in names:
                del vars(loader)[name]

        self._restore.append(empty)


_guard = _Guard()  # one for all estimators of the process, as the classes that it patches


@contextmanager
def guarding_keras() -> Iterator[None]:
    """Within the block, `tf.compat.v1.layers` and `tf.compat.v1.nn.rnn_cell` are those of Keras 2.

    In this thread, what of Keras does not work in a graph raises ValueError when it is called: every layer and model of
    Keras 3 with variables or random numbers, its metrics and random numbers themselves, and every optimizer of Keras 3
    and of tf_keras but those of tf_keras.optimizers.legacy. Reentrant and thread-safe.
    """
    _guard.enter()
    try:
        yield
    finally:
        _guard.leave()


def _call_without_state(original: Callable[..., Any], layer: Any, *args: Any, **kwargs: Any) -> Any:
    if _called.get() is not None:
        return original(layer, *args, **kwargs)
    if layer.variables:
        raise ValueError(_refusal_of_layer(layer))
    token = _called.set(layer)
    try:
        return original(layer, *args, **kwargs)
    finally:
        _called.reset(token)


def _make_variable(original: Callable[..., Any], variable: Any, *args: Any, **kwargs: Any) -> None:
    if (layer := _called.get()) is not None:
        raise ValueError(_refusal_of_layer(layer))
    original(variable, *args, **kwargs)


def _refuse_random_numbers(*args: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    raise ValueError(
        "Random numbers of Keras 3 are the same at every step of the graph of a model_fn. Use those of tf.random in "
        "their place."
    )


def _refuse_metric(_: Callable[..., Any], metric: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    raise ValueError(
        f"{_name(metric)} is a metric of Keras 3, which keeps no variables in the graph of a model_fn. "
        f"Use {_replacement(metric, {'tf_keras.metrics': tf_keras.metrics})} in its place, or tf.compat.v1.metrics."
    )


def _refuse_optimizer(_: Callable[..., Any], optimizer: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    raise ValueError(_refusal_of_optimizer(optimizer))


def _refusal_of_layer(layer: Any) -> str:
    return (
        f"{_name(layer)} is a layer of Keras 3, which keeps neither variables nor random state in the graph of a "
        f"model_fn. Use {_replacement(layer, _LAYER_NAMESPACES)} in its place."
    )


def _refusal_of_optimizer(optimizer: Any) -> str:
    legacy = {"tf_keras.optimizers.legacy": tf_keras.optimizers.legacy}
    return (
        f"{_name(optimizer)} is an optimizer that updates nothing in the graph of a model_fn. "
        f"Use {_replacement(optimizer, legacy)} in its place, or an optimizer of tf.compat.v1.train."
    )


def _name(instance: Any) -> str:
    return f"{type(instance).__module__}.{type(instance).__qualname__}"


def _replacement(instance: Any, namespaces: dict[str, Any]) -> str:
    """The name of what comes closest to the class of an instance, or to a class that it derives from."""
    for cls in type(instance).__mro__:
        if cls.__module__.partition(".")[0] in ("keras", "tf_keras"):
            for namespace, module in namespaces.items():
                if hasattr(module, cls.__name__):
                    return f"{namespace}.{cls.__name__}"
    return " or ".join(namespaces)
