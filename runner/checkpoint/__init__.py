"""Checkpoints of a model_dir: which there are, whether they fit a model, and how they are written and restored."""
