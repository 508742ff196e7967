"""Pieces of a remote event file: what is written of each, kept in a local scratch file until the store has it."""

import os
import socket
import tempfile
import time
from pathlib import Path

import tensorflow as tf

from runner.estimator.events.records import frame

__all__ = ["Piece", "PieceNames"]

_FILE_VERSION = "brain.Event:2"
"""What the first event of every file says. From this version on TensorBoard heeds SessionLog.START."""


class PieceNames:
    """The names of the pieces of one writer, which no other writer has: a late upload replaces nobody's events.

    `events.out.tfevents.<seconds>.<host>.<nanoseconds>.<pid>.<n>`. TensorBoard reads a directory in the order of the
    names, so that those of later writers come after these.

    Args:
        now_ns: When the writer begins, in nanoseconds since 1970.
    """

    def __init__(self, now_ns: int) -> None:
        seconds, nanoseconds = divmod(now_ns, 10**9)
        self._prefix = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{nanoseconds:09d}.{os.getpid()}"
        self._count = 0

    def next(self) -> str:
        """The name of the next piece."""
        name = f"{self._prefix}.{self._count:05d}"
        self._count += 1
        return name


class Piece:
    """One piece, an event file of its own. Not thread-safe, except that it may be read while it grows.

    Args:
        name: Of its object.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.size_bytes = 0
        self.uploaded_bytes = 0
        self.is_full = False
        # Without a name on the disk: nothing stays behind if the process is killed.
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by close()
        self.append(tf.compat.v1.Event(wall_time=time.time(), file_version=_FILE_VERSION).SerializeToString())

    @property
    def is_uploaded(self) -> bool:
        """Whether the store has all that was written."""
        return self.uploaded_bytes == self.size_bytes

    def append(self, event: bytes) -> None:
        """Adds a serialized event.

        Raises:
            OSError: The scratch disk is full; the piece is as before.
        """
        data = frame(event)
        position = self.size_bytes
        while position < self.size_bytes + len(data):
            position += os.pwrite(self._file.fileno(), data[position - self.size_bytes :], position)
        self.size_bytes = position

    def read(self, size_bytes: int) -> bytes:
        """The first `size_bytes`."""
        return os.pread(self._file.fileno(), size_bytes, 0)

    def keep(self, folder: Path) -> None:
        """Copies it to a local folder, under its name."""
        (folder / self.name).write_bytes(self.read(self.size_bytes))

    def close(self) -> None:
        """Gives the scratch file back."""
        self._file.close()
