"""The namespace tf.compat.v1.estimator.inputs."""

from runner.estimator.inputs import numpy_input_fn, pandas_input_fn

__all__ = ["numpy_input_fn", "pandas_input_fn"]
