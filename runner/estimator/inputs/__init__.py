"""Inputs: what an input_fn returns as a batch of tensors, and input functions from arrays, frames and examples."""

from runner.estimator.inputs.numpy_input import numpy_input_fn
from runner.estimator.inputs.pandas_input import pandas_input_fn

__all__ = ["numpy_input_fn", "pandas_input_fn"]
