"""What names a model_dir, an object in it, and a checkpoint: local paths and URLs."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from runner.errors import ModelDirError, RunnerError
from runner.storage.directory import Directory
from runner.storage.names import checked_name
from runner.storage.retry import Retry

__all__ = ["is_local", "join", "open_directory", "real_path", "resolve_model_dir", "resolve_url", "split_prefix"]

_LOCAL = ("file", "local")
_S3 = ("s3", "s3a")
_PATTERN = "*?[\\"
_SEPARATOR = "://"
_SQUEEZED_URL = re.compile(r"([a-z][a-z0-9+]+):/(.+)")


def resolve_model_dir(model_dir: str | os.PathLike[str], *, base: Path | None = None) -> str:
    """The one name of a model_dir that every task of a job will use: an absolute path or a URL.

    Args:
        model_dir: A path, relative or absolute, `~` included, or a URL of a protocol that fsspec knows.
        base: What a relative path is relative to; None means the working directory.

    Raises:
        ModelDirError: Empty, a URL that nothing installed here can open, one with a password, or with a character
            that is taken for a pattern.
    """
    text = os.fspath(model_dir)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ModelDirError(f"model_dir={model_dir!r}: expected a path such as /data/models/iris.")
    if _SEPARATOR not in text:
        if found := _SQUEEZED_URL.match(text):
            raise ModelDirError(
                f"model_dir={text!r}: a URL has two slashes, of which pathlib.Path leaves one: expected "
                f"{found[1]}{_SEPARATOR}{found[2]} as text. A local path of that name is ./{text}"
            )
        return _without_pattern(os.path.abspath((base or Path.cwd()) / Path(text).expanduser()))
    protocol, path = text.split(_SEPARATOR, 1)
    if protocol not in _LOCAL:
        return _without_pattern(resolve_url(text, what="model_dir", error=ModelDirError))
    if not path.startswith("/"):
        raise ModelDirError(
            f"model_dir={text!r}: a file URL needs an absolute path: file:///data/models/iris, or just "
            "/data/models/iris."
        )
    return _without_pattern(os.path.abspath(path))


def resolve_url(url: str, *, what: str, error: type[RunnerError]) -> str:
    """The one name of a place on a store.

    Args:
        url: Of a protocol that fsspec knows.
        what: What it is to the user, for messages.
        error: What to raise if the URL cannot be used.
    """
    protocol, path = url.split(_SEPARATOR, 1)
    _check_credentials(url, what, error)
    _check_protocol(protocol, f"{what}={url!r}", error)
    # Both are the same place to fsspec, and one place must have one name.
    protocol = "s3" if protocol in _S3 else protocol
    path = path.strip("/") if protocol in {"s3", "memory"} else path.rstrip("/")
    parts = path.lstrip("/").split("/")
    if not parts[0] or any(part in {"", ".", ".."} for part in parts):
        raise error(
            f"{what}={url!r}: expected a URL such as s3://bucket/models/iris, without empty parts, '.' and '..'."
        )
    return f"{protocol}{_SEPARATOR}{path}"


def open_directory(url: str, *, retry: Retry | None = None) -> Directory:
    """The directory of that name.

    Args:
        url: What `resolve_model_dir` returned.
        retry: How often transient errors of a store are tried again; None: for a minute.

    Raises:
        ModelDirError: Nothing installed here can open it.
    """
    # The clients of the stores take a second to import, and most processes need none or one of them.
    if is_local(url):
        from runner.storage.local_directory import LocalDirectory  # noqa: PLC0415

        return LocalDirectory(url)
    if (protocol := url.split(_SEPARATOR, 1)[0]) == "s3":
        from runner.storage.s3_directory import S3Directory  # noqa: PLC0415

        return S3Directory(url, retry=retry)
    if protocol == "memory":
        from runner.storage.memory_directory import MemoryDirectory  # noqa: PLC0415

        return MemoryDirectory(url)
    _check_protocol(protocol, url, ModelDirError)
    from runner.storage.fsspec_directory import FsspecDirectory  # noqa: PLC0415

    return FsspecDirectory(url, retry=retry)


def is_local(url: str) -> bool:
    """Whether a resolved model_dir, or a name in one, is a path on a local disk, which TensorFlow can open."""
    return _SEPARATOR not in url


def join(url: str, name: str) -> str:
    """The path or URL of an object in a directory, or of a folder in it, or of a checkpoint: a prefix.

    Raises:
        ValueError: The name leads out of the directory.
    """
    return f"{url.rstrip('/')}/{checked_name(name, url)}"


def split_prefix(prefix: str | os.PathLike[str]) -> tuple[str, str]:
    """The directory and the basename of a checkpoint, from its prefix `<model_dir>/model.ckpt-<step>`.

    Raises:
        ValueError: It has no basename.
    """
    text = os.fspath(prefix)
    text = text.removeprefix("file://")
    folder, slash, basename = text.rpartition("/")
    if not basename or basename in {".", ".."} or folder.endswith(":/"):
        raise ValueError(f"{prefix!r} is no prefix of a checkpoint: expected one such as /data/iris/model.ckpt-200.")
    return (os.path.abspath(folder or slash or ".") if is_local(text) else folder), basename


def real_path(url: str) -> str:
    """What all names of one directory have in common: of a local one its path without links. It need not exist.

    Args:
        url: What `resolve_model_dir` returned.
    """
    return os.path.realpath(url) if is_local(url) else url


def _check_protocol(protocol: str, given: str, error: type[RunnerError]) -> None:
    import fsspec  # noqa: PLC0415

    try:
        fsspec.get_filesystem_class(protocol or "''")  # to which no protocol is a local path
    except ValueError as unknown:
        raise error(
            f"{given}: fsspec knows no protocol {protocol!r}. Give a path that all workers share, or a URL "
            "such as s3://bucket/models/iris."
        ) from unknown
    except ImportError as missing:
        raise error(
            f"{given}: the package for {protocol}{_SEPARATOR} is not installed here: {str(missing).rstrip('.')}. "
            "Every machine with a client or a worker needs it."
        ) from missing


def _check_credentials(url: str, what: str, error: type[RunnerError]) -> None:
    # They would be seen in logs and in the records of jobs.
    if "@" in (location := urlsplit(url).netloc) and ":" in location.rpartition("@")[0]:
        shown = url.replace(location.rpartition("@")[0], "...", 1)
        raise error(
            f"{what}={shown!r} has a password in it. Leave it out, and give it to fsspec by its configuration: "
            "FSSPEC_<PROTOCOL>_PASSWORD in the environment, or a file in ~/.config/fsspec."
        )


def _without_pattern(url: str) -> str:
    # TensorFlow looks for the files of a checkpoint with a glob of its prefix: it would neither find nor delete any.
    if found := sorted(set(url) & set(_PATTERN)):
        raise ModelDirError(
            f"model_dir {url} contains {' '.join(found)}, which TensorFlow takes for a pattern of file names: "
            "choose a model_dir without *, ?, [ and \\."
        )
    return url
