"""Names of tf.estimator that this package leaves out on purpose, and what to use in their place."""

__all__ = ["explain"]

_REASONS = {
    "model_to_estimator": "Models of Keras are out of scope here: write a model_fn that calls the layers of tf_keras.",
    "tpu": "TPUs are out of scope here: use the Estimator with the same model_fn, on CPU or GPU.",
}


def explain(module: str, name: str) -> str:
    """The message of the AttributeError for a name that a namespace does not have."""
    message = f"module {module!r} has no attribute {name!r}"
    return f"{message}. {_REASONS[name]}" if name in _REASONS else message
