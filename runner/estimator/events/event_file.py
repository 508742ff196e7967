"""Which writer writes the events of a directory, and what hooks of a user get from FileWriterCache."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import tensorflow as tf

from runner.estimator.events.piece_writer import PieceWriter
from runner.estimator.remote import is_remote
from runner.storage.urls import open_directory, resolve_model_dir

__all__ = ["EventFile", "remote_writers"]

_v1 = tf.compat.v1


class EventFile:
    """An event file in `directory`, made when it is opened; of a remote directory with the first event.

    While it is open, tf.compat.v1.summary.FileWriterCache hands out the same writer, so that the hooks of a user write
    into the same file.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.writer: Any = None

    def __enter__(self) -> Self:
        cache = _v1.summary.FileWriterCache
        if is_remote(self._directory):
            self.writer = _RemoteFileWriter(self._directory)
        else:
            self.writer = _v1.summary.FileWriter(self._directory, filename_suffix=_suffix(self._directory))
        with cache._lock:  # noqa: SLF001 - the cache can only make writers of its own
            self._before = cache._cache.get(self._directory)  # noqa: SLF001
            cache._cache[self._directory] = self.writer  # noqa: SLF001
        return self

    def __exit__(self, *_: object) -> None:
        cache = _v1.summary.FileWriterCache
        with cache._lock:  # noqa: SLF001
            cache._cache.pop(self._directory, None)  # noqa: SLF001 - a user may have cleared it
            if self._before is not None:
                cache._cache[self._directory] = self._before  # noqa: SLF001
        self.writer.close()


@contextmanager
def remote_writers() -> Iterator[None]:
    """Lets tf.compat.v1.summary.FileWriterCache hand out writers for URLs too, as hooks of a user ask it for.

    Those that it made are closed when the last of these contexts ends.
    """
    cache = _v1.summary.FileWriterCache
    with cache._lock:  # noqa: SLF001 - the cache can only make writers of its own
        if not isinstance(cache._cache, _Writers):  # noqa: SLF001
            cache._cache = _Writers(cache._cache)  # noqa: SLF001
        writers: _Writers = cache._cache  # noqa: SLF001
        writers.users += 1
    try:
        yield
    finally:
        with cache._lock:  # noqa: SLF001
            writers.users -= 1
            remote = [] if writers.users else writers.pop_remote()
            if cache._cache is writers and not writers.users:  # noqa: SLF001 - a user may have cleared it
                cache._cache = dict(writers)  # noqa: SLF001
        for writer in remote:
            writer.close()


class _Writers(dict[str, Any]):
    """What is in the cache, and a new writer for every URL that it is asked for."""

    users = 0

    def __contains__(self, logdir: object) -> bool:
        if not super().__contains__(logdir) and isinstance(logdir, str) and is_remote(logdir):
            self[logdir] = _RemoteFileWriter(logdir, graph=_v1.get_default_graph())
        return super().__contains__(logdir)

    def pop_remote(self) -> list[Any]:
        """Takes those of URLs out."""
        return [self.pop(logdir) for logdir in [*self] if is_remote(logdir)]


class _RemoteFileWriter(tf.compat.v1.summary.FileWriter):
    """TensorFlow's, but for where the events go."""

    def __init__(self, url: str, graph: Any = None) -> None:
        writer = PieceWriter(open_directory(resolve_model_dir(url)))
        self._closed = False
        # Not that of FileWriter, which makes a file.
        super(_v1.summary.FileWriter, self).__init__(writer, graph)


def _suffix(directory: str) -> str:
    """Empty, unless a file of this second is there already: TensorFlow would truncate it."""
    now = int(time.time())
    taken = [name for second in (now, now + 1) for name in Path(directory).glob(f"events.out.tfevents.{second:010d}.*")]
    return f".{os.getpid()}.{len(taken)}" if taken else ""
