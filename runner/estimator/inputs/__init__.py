"""Inputs: what an input_fn returns as a batch of tensors, and input functions from arrays, frames and examples."""
