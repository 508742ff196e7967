"""install(): tf.estimator is this package, so that scripts written for the original run unchanged."""

import os
import sys
import warnings
from importlib import import_module
from typing import Any, NoReturn

import tensorflow as tf
import tf_keras

from runner.estimator.out_of_scope import explain

__all__ = ["install"]

_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"

_NAMESPACES = (
    ("tensorflow.estimator", "runner.estimator", ("experimental", "export", "inputs")),
    ("tensorflow.compat.v1.estimator", "runner.estimator.v1", ("experimental", "export", "inputs")),
    ("tensorflow.compat.v2.estimator", "runner.estimator", ("experimental", "export")),
)
"""Where TensorFlow had it, which module it is here, and what of that are namespaces too."""

_NESTED = (
    (tf.compat.v1.compat.v1, "runner.estimator.v1"),
    (tf.compat.v1.compat.v2, "runner.estimator"),
    (tf.compat.v2.compat.v1, "runner.estimator.v1"),
    (tf.compat.v2.compat.v2, "runner.estimator"),
)
"""Modules of their own that `tf.compat` is in scripts that begin with `import tensorflow.compat.v1 as tf`."""

_LEGACY_PACKAGES = (
    (tf, "tf_keras.api._v2.keras"),
    (tf.compat.v1, "tf_keras.api._v1.keras"),
    (tf.compat.v1, "tf_keras.api._v1.keras.__internal__.legacy.layers"),
    (tf.compat.v1.nn, "tf_keras.api._v1.keras.__internal__.legacy.rnn_cell"),
)
"""Which package of Keras 2 is to be found under which module of TensorFlow, by the last part of its name."""


def install() -> None:
    """Makes `tf.estimator` and `tf.compat.v1.estimator` resolve to this package, and `tf.keras` to Keras 2.

    One line at the top of a script, before it uses `tf.keras`, is enough: `from runner.estimator import install` and
    the call. Attributes of the modules of TensorFlow and imports such as `from tensorflow.estimator import RunConfig`
    work from then on, in the whole process. Idempotent. TF_USE_LEGACY_KERAS is set to 1 in the environment, unless it
    is set already, so that processes started from this one have the same Keras.

    Warns:
        RuntimeWarning: `tf.keras` is Keras 3 already, because it was used before or because TF_USE_LEGACY_KERAS says
            so: its layers and optimizers are refused in a model_fn.
    """
    for alias, home, submodules in _NAMESPACES:
        _register(alias, home, submodules)
    for module, home in _NESTED:
        module.estimator = import_module(home)
    # TensorFlow dropped this hook with the estimators that it is for.
    hook = import_module("runner.estimator.hooks.input_checkpoint").CheckpointInputPipelineHook
    tf.data.experimental.CheckpointInputPipelineHook = hook
    tf.compat.v1.data.experimental.CheckpointInputPipelineHook = hook
    os.environ.setdefault(_LEGACY_KERAS, "1")
    if not _has_legacy_keras():
        warnings.warn(
            "tf.keras is Keras 3, whose layers and optimizers do not work in a model_fn. Call install() before "
            f"anything uses tf.keras, or set {_LEGACY_KERAS}=1 in the environment before the program starts.",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    _import_from_legacy_keras()
    for version in ("_v1", "_v2"):
        _leave_out_model_to_estimator(import_module(f"tf_keras.api.{version}.keras.estimator"))


def _leave_out_model_to_estimator(module: Any) -> None:
    """Lets the look-up say what to do; the call would ask for a package that is not to be had any more."""
    vars(module).pop("model_to_estimator", None)

    def __getattr__(name: str) -> NoReturn:  # noqa: N807 - Python calls it
        raise AttributeError(explain(module.__name__, name))

    module.__getattr__ = __getattr__


def _register(alias: str, home: str, submodules: tuple[str, ...]) -> None:
    """Makes a module an attribute of its new parent, and what the import statement finds under its new name."""
    parent, _, name = alias.rpartition(".")
    module = import_module(home)
    setattr(_module_of_tensorflow(parent), name, module)
    sys.modules[alias] = module
    for submodule in submodules:
        sys.modules[f"{alias}.{submodule}"] = getattr(module, submodule)


def _module_of_tensorflow(name: str) -> Any:
    module: Any = tf
    for part in name.split(".")[1:]:
        module = getattr(module, part)
    return module


def _has_legacy_keras() -> bool:
    # TensorFlow decides which Keras it has when tf.keras is first used, which is here at the latest. An import of
    # tensorflow.keras or of what is below it finds the package that TensorFlow had in mind when it was loaded.
    imported = sys.modules.get("tensorflow.keras")
    return tf.keras.layers.Layer is tf_keras.layers.Layer and (
        imported is None or imported.layers.Layer is tf_keras.layers.Layer
    )


def _import_from_legacy_keras() -> None:
    """Lets statements such as `from tensorflow.keras.layers import Dense` find Keras 2."""
    for module, name in _LEGACY_PACKAGES:
        directory = os.path.dirname(os.path.abspath(str(import_module(name).__file__)))
        parent = os.path.dirname(directory)
        if parent not in module.__path__:
            module.__path__.insert(0, parent)
