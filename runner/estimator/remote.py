"""Paths that TensorFlow cannot open by itself."""

__all__ = ["is_remote"]

_OPENED_BY_TENSORFLOW = ("file", "ram")


def is_remote(path: str) -> bool:
    """Whether a path is a URL whose bytes go through runner.storage, and never through tf.io.gfile."""
    protocol, separator, _ = path.partition("://")
    return bool(separator) and protocol not in _OPENED_BY_TENSORFLOW
