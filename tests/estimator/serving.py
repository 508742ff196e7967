"""A server of exported models that knows TensorFlow alone: `python -I serving.py` with requests on stdin.

A request is {"path", "signature", "inputs"}; strings of inputs are base64. The answers, in order, go to stdout.
"""

import base64
import json
import sys
from typing import Any

sys.modules["runner"] = None  # type: ignore[assignment] # whoever imports it now gets an ImportError

import tensorflow as tf  # noqa: E402 - only from here on


def decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [decoded(each) for each in value]
    return base64.b64decode(value) if isinstance(value, str) else value


def answer(path: str, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
    loaded = tf.saved_model.load(path)
    values = loaded.signatures[signature](**{name: tf.constant(decoded(value)) for name, value in inputs.items()})
    return {
        name: value.numpy().astype(str).tolist() if value.dtype == tf.string else value.numpy().tolist()
        for name, value in values.items()
    }


if __name__ == "__main__":
    print(json.dumps([answer(**request) for request in json.load(sys.stdin)]))
