"""Answers commands with the real tf.estimator, in the interpreter of TensorFlow 2.15: a line of JSON in, one out."""

import json
import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tests.estimator.oracle import commands
from tests.estimator.oracle.models import MODELS, Library

_WITH_MODEL: dict[str, Callable[..., Any]] = {
    "train": commands.train,
    "evaluate": commands.evaluate,
    "predict": commands.predict,
    "export": commands.export,
}
_WITHOUT_MODEL: dict[str, Callable[..., Any]] = {"read": commands.read, "serve": commands.serve}


def main() -> None:
    library = Library(tf.estimator, tf.compat.v1.estimator, tf.keras.optimizers.legacy)
    for line in sys.stdin:
        arguments = json.loads(line)
        do = arguments.pop("do")
        if do in _WITHOUT_MODEL:
            answer = _WITHOUT_MODEL[do](arguments["model_dir"])
        else:
            answer = _WITH_MODEL[do](MODELS[arguments.pop("model")], library, **arguments)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
