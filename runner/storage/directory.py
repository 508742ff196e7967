"""A model_dir as a place for named bytes: where it is, whether it can be written, and whole reads and writes."""

import os
import tempfile
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.core import split_protocol

from runner.errors import ModelDirError

__all__ = ["Directory", "real_path", "resolve_model_dir"]

_LOCAL = ("file", "local")
_PATTERN = "*?[\\"


def resolve_model_dir(model_dir: str | os.PathLike[str], *, base: Path | None = None) -> str:
    """The absolute path that every task of a job will use.

    Args:
        model_dir: A path, relative or absolute, `~` included, or a file:// URL.
        base: What a relative path is relative to; None means the working directory.

    Raises:
        ModelDirError: Empty, a URL of a scheme that fsspec does not know, not on a local disk, or with a character that
            TensorFlow takes for a pattern.
    """
    text = os.fspath(model_dir)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ModelDirError(f"model_dir={model_dir!r}: expected a path such as /data/models/iris.")
    protocol: str | None
    path: str
    protocol, path = split_protocol(text)
    if protocol is None:
        return _without_pattern(os.path.abspath((base or Path.cwd()) / Path(path).expanduser()))
    if protocol not in _LOCAL:
        raise ModelDirError(_refusal(text, protocol))
    if not path.startswith("/"):
        raise ModelDirError(f"model_dir={text!r}: a file URL needs an absolute path, as in file:///data/models/iris.")
    return _without_pattern(os.path.abspath(path))


def real_path(url: str) -> str:
    """What all names of one directory have in common: its path without symbolic links. It need not exist.

    Args:
        url: What `resolve_model_dir` returned.
    """
    return os.path.realpath(url)


def _without_pattern(path: str) -> str:
    # TensorFlow looks for the files of a checkpoint with a glob of its prefix: it would neither find nor delete any.
    if found := sorted(set(path) & set(_PATTERN)):
        raise ModelDirError(
            f"model_dir {path} contains {' '.join(found)}, which TensorFlow takes for a pattern of file names: "
            "choose a model_dir without *, ?, [ and \\."
        )
    return path


def _refusal(url: str, protocol: str) -> str:
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        return f"model_dir={url!r}: fsspec knows no scheme {protocol!r}. Give a path that all workers share."
    except ImportError:  # known, and its package is not installed
        pass
    return (
        f"model_dir={url!r}: this version keeps a model_dir on local disk, not on {protocol}://. "
        "Give a path that all workers share, such as a directory on NFS."
    )


class Directory:
    """A directory on a local disk, read and written one whole file at a time. Nothing is cached; thread-safe.

    Args:
        url: What `resolve_model_dir` returned.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._root = Path(url)

    def check_writable(self) -> None:
        """Creates the directory if it is missing, and a file in it that it deletes again.

        Raises:
            ModelDirError: One of the two is not possible.
        """
        # Asking for permissions is not enough: root passes, and a read-only or full file system does not show.
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._root, prefix=".writable-"):
                pass
        except OSError as error:
            raise ModelDirError(
                f"model_dir {self.url} cannot be written: {error.strerror or error}. "
                "Make it writable for this user, or choose another model_dir."
            ) from error

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self._path(name).is_file()

    def read_bytes(self, name: str) -> bytes:
        """The whole content of a file.

        Raises:
            FileNotFoundError: There is no such file.
        """
        return self._path(name).read_bytes()

    def write_bytes(self, name: str, data: bytes) -> None:
        """Creates or replaces a file; a reader sees all of it or none, also after a crash.

        Args:
            name: Relative, with `/` between directories, which are created.
            data: All of its content.
        """
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.tmp-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                # mkstemp makes private files, and workers may run as another user of the same group.
                os.fchmod(descriptor, 0o644)
                # Without this a power loss after the rename could leave an empty file under the final name.
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync(path.parent)

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise ValueError(f"{name!r} is not a name inside {self.url}: expected a relative path without '..'.")
        return self._root.joinpath(*parts)


def _sync(directory: Path) -> None:
    """Makes a rename in a directory survive a power loss."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
