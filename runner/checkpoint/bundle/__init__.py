"""TensorFlow's tensor bundle, the format of a checkpoint's index and data files; written and read without it."""
