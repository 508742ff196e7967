"""Training data of remote stores as local files, since TensorFlow opens only those."""

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from runner.errors import DataUrlError, ObjectNotFoundError
from runner.settings import Settings
from runner.storage.object_cache import ObjectCache
from runner.storage.urls import is_local, open_directory, resolve_url

__all__ = ["local"]

_PATTERN = "*"
_THREADS = 2


def local(urls: str | Sequence[str]) -> list[str]:
    """The paths of local files with the content of remote objects, for use in an input_fn.

    An object is downloaded once for all processes of a host, and again if it has changed. A file stays as it is while
    the process that asked for it lives; later it may be deleted to make room for others. The cache is in `data` of
    RUNNER_CACHE_DIR (by default ~/.cache/runner) and holds RUNNER_DATA_CACHE_BYTES.

    Args:
        urls: Such as s3://bucket/iris/train.csv. The last part may have `*` in it, which stands for any characters: all
            objects in that folder whose names match, sorted. What is no URL, or a file:// URL, is returned as it is.

    Returns:
        One path for each, in the same order.

    Raises:
        DataUrlError: A URL cannot be used.
        ObjectNotFoundError: There is no such object, or none that matches.
        StoreFullError: They do not fit into the cache.
        StorageError: They cannot be read.
    """
    given = [urls] if isinstance(urls, str | os.PathLike) else list(urls)
    with ThreadPoolExecutor(_THREADS) as threads:
        return [path for paths in threads.map(_local, map(os.fspath, given)) for path in paths]


def _local(url: str) -> list[str]:
    if is_local(url) or url.startswith(("file://", "local://")):
        return [url]
    folder, slash, name = resolve_url(url, what="url", error=DataUrlError).rpartition("/")
    if not slash or folder.endswith(":/") or _PATTERN in folder:
        raise DataUrlError(
            f"url={url!r}: expected that of an object in a folder, such as s3://bucket/iris/train.csv, with `*` only "
            "in its last part."
        )
    directory = open_directory(folder)
    names = [name]
    if _PATTERN in name:
        # Only "*": the other signs of a pattern are quite usual in names.
        pattern = name.replace("[", "[[]").replace("?", "[?]")
        names = [entry.name for entry in directory.list() if fnmatchcase(entry.name, pattern)]
        if not names:
            raise ObjectNotFoundError(f"No object in {folder} matches {name!r}.")
    return [str(_cache().local(directory, each)) for each in names]


@functools.cache
def _cache() -> ObjectCache:
    # One for the process: what it has handed out must stay while the process lives.
    settings = Settings.from_environ()
    return ObjectCache(_absolute(settings.cache_dir) / "data", max_bytes=settings.data_cache_bytes)


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()
