"""Exports below a local path, or another that TensorFlow opens itself."""

import logging
import os
import time
from collections.abc import Callable

import tensorflow as tf

# TensorFlow exports these under no public name since tf.estimator is gone.
from tensorflow.python.saved_model.model_utils import export_utils

__all__ = ["LocalExports"]

_logger = logging.getLogger("tensorflow")

_TIMESTAMP_DIGITS = 10
"""Of the seconds since 1970, by which exports are named; other directories are not an exporter's to delete."""


class LocalExports:
    """The exports below a directory, each of which appears by a rename, whole or not at all.

    Args:
        base: The directory; created by the first export.
    """

    def __init__(self, base: bytes) -> None:
        self._base = base

    def publish(self, write: Callable[[bytes], None]) -> bytes:
        """Adds an export, and returns its path: the base and the seconds since 1970.

        Args:
            write: Writes it to the empty directory that it is given.
        """
        final, temporary = self._claimed_paths()
        try:
            write(temporary)
            tf.io.gfile.rename(temporary, final)
        finally:
            if tf.io.gfile.exists(temporary):
                tf.io.gfile.rmtree(temporary)
        return final

    def versions(self) -> list[str]:
        """The names of the exports, from the oldest to the newest."""
        if not tf.io.gfile.isdir(self._base):
            return []
        names = (tf.compat.as_str_any(name).rstrip("/") for name in tf.io.gfile.listdir(self._base))
        return sorted(name for name in names if len(name) == _TIMESTAMP_DIGITS and name.isdigit())

    def delete_older(self, *, keep: int) -> None:
        """Deletes all but the newest `keep` exports."""
        for name in self.versions()[:-keep]:
            path = os.path.join(tf.compat.as_str_any(self._base), name)
            try:
                tf.io.gfile.rmtree(path)
            except tf.errors.NotFoundError as error:  # another process deleted it
                _logger.warning("Can not delete %s recursively: %s", path, error)

    def _claimed_paths(self) -> tuple[bytes, bytes]:
        """The name of a new export, and the empty directory that it is written in, which a server passes over."""
        tf.io.gfile.makedirs(self._base)
        while True:
            final = export_utils.get_timestamped_export_dir(self._base)
            temporary = export_utils.get_temp_export_dir(final)
            try:
                _claim(temporary)
            except FileExistsError:
                time.sleep(1)  # another process exports in this second
            else:
                return final, temporary


def _claim(directory: bytes) -> None:
    if b"://" not in directory:
        os.mkdir(directory)
    elif tf.io.gfile.exists(directory):  # TensorFlow's own mkdir does not tell
        raise FileExistsError(directory)
