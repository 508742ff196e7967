"""What of Keras does not work in a graph, refused while a model_fn builds one.

A layer of Keras 3 gives its variables no place in the graph, and its random numbers are the same at every step.
Optimizers of Keras 3, and those of tf_keras that are not legacy, return no op that updates anything. All of that trains
without an error.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tf_keras

__all__ = ["refusing_keras"]

_LAYER_NAMESPACES = {"tf_keras.layers": tf_keras.layers, "tf_keras": tf_keras}


class _Guard:
    """Patches the classes of Keras while any thread needs it, since they are shared by all; refuses only in those."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: list[int] = []
        self._restore: list[Callable[[], None]] = []

    def enter(self) -> None:
        with self._lock:
            self._threads.append(threading.get_ident())
            if len(self._threads) == 1:
                self._patch(keras.Layer, "__call__", _refusal_of_layer)
                for name in ("apply", "apply_gradients"):
                    self._patch(keras.optimizers.Optimizer, name, _refusal_of_optimizer)
                self._patch(tf_keras.optimizers.Optimizer, "apply_gradients", _refusal_of_optimizer)

    def leave(self) -> None:
        with self._lock:
            self._threads.remove(threading.get_ident())
            while self._restore and not self._threads:
                self._restore.pop()()

    def _patch(self, cls: Any, name: str, refusal: Callable[[Any], str]) -> None:
        original = getattr(cls, name)

        @functools.wraps(original)
        def method(instance: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() in self._threads:
                raise ValueError(refusal(instance))
            return original(instance, *args, **kwargs)

        is_own = name in vars(cls)
        setattr(cls, name, method)
        self._restore.append(lambda: setattr(cls, name, original) if is_own else delattr(cls, name))


_guard = _Guard()  # one for all estimators of the process, as the classes that it patches


@contextmanager
def refusing_keras() -> Iterator[None]:
    """Within the block, and in this thread, what of Keras does not work in a graph raises ValueError when it is called.

    That is every layer and model of Keras 3, and every optimizer of Keras 3 and of tf_keras but those of
    tf_keras.optimizers.legacy. Reentrant and thread-safe.
    """
    _guard.enter()
    try:
        yield
    finally:
        _guard.leave()


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
