"""The experiment of `runner quickstart`, and its data."""
