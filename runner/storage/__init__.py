"""A model_dir as a place where bytes are kept, over fsspec."""
