"""A directory on any store that fsspec has a client for."""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from runner.errors import ConditionFailedError, ModelDirError, ObjectNotFoundError, StorageError
from runner.storage.directory import Condition, Directory, Entry, Stored, Upload
from runner.storage.failures import translated
from runner.storage.local_upload import LocalUpload
from runner.storage.names import checked_name, is_staged, staged_name
from runner.storage.retry import Retry

__all__ = ["FsspecDirectory"]

T = TypeVar("T")

_logger = logging.getLogger(__name__)

# What clients call what changes with an object's content.
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "version_id", "ino", "size")
_TIME_KEYS = ("LastModified", "last_modified", "updated", "modified", "mtime", "created")
_READ_ATTEMPTS = 5


class FsspecDirectory(Directory):
    """Objects on a store whose only known abilities are those that every client of fsspec has.

    It knows no conditions: two writers of one object do not notice each other. Large objects are staged on the local
    disk first. Where the client can rename, an object appears whole; elsewhere it does if the store sees to it, as
    object stores do.

    Args:
        url: What `resolve_model_dir` returned.
        retry: How often transient errors are tried again.
    """

    locks = False
    conditional = False

    def __init__(self, url: str, *, retry: Retry | None = None) -> None:
        self.url = url
        self._retry = retry or Retry()
        with translated(f"open {url}"):  # some clients connect at once
            self._fs, root = url_to_fs(url, use_listings_cache=False)
        self._root = root.rstrip("/")
        # The general one copies and deletes, after which a reader may see half an object.
        self._renames = type(self._fs).mv is not AbstractFileSystem.mv
        self._has_warned = False

    def check_writable(self) -> None:
        """Writes a small object and deletes it again.

        Raises:
            ModelDirError: One of the two is not possible.
        """
        name = staged_name("writable")
        path = f"{self._root}/{name}"
        try:
            self._call(f"write {self.url}/{name}", lambda: self._write(path, b"\0"))
            self._call(f"delete {self.url}/{name}", lambda: self._fs.rm_file(path))
        except (StorageError, NotImplementedError, ValueError) as error:  # the last two: a client that only reads
            raise ModelDirError(
                f"model_dir {self.url} cannot be written: {str(error).rstrip('.')}. Check the URL and the credentials, "
                "or choose another model_dir."
            ) from error

    def read(self, name: str) -> Stored:
        """The whole content of an object, and its tag; see Directory."""
        for _ in range(_READ_ATTEMPTS):
            # The client tells content and tag in two requests, between which the object may be replaced.
            entry = self._existing(name)
            data: bytes = self._call(f"read {self.url}/{name}", lambda: self._fs.cat_file(self._path(name)))
            if self._existing(name) == entry:
                return Stored(data, entry.tag)
        raise StorageError(f"{self.url}/{name} was replaced {_READ_ATTEMPTS} times while it was read.")

    def read_if_changed(self, name: str, tag: str) -> Stored | None:
        """The content of an object unless it still has that tag; see Directory."""
        return None if self._existing(name).tag == tag else self.read(name)

    def read_into(self, name: str, buffer: memoryview, *, offset: int = 0, tag: str | None = None) -> None:
        """Fills a buffer from part of an object; see Directory."""
        rest = buffer.cast("B")
        data = b""
        if rest:
            path = self._path(name)
            data = self._call(f"read {path}", lambda: self._fs.cat_file(path, start=offset, end=offset + len(rest)))
        # Afterwards: what was read before the object was replaced is still right.
        entry = self._existing(name)
        if tag is not None and entry.tag != tag:
            raise ConditionFailedError(f"{self.url}/{name} has been replaced while it was read.")
        if len(data) != len(rest):
            raise StorageError(f"{self.url}/{name} ends at byte {entry.size_bytes}, within what was to be read.")
        rest[:] = data

    def stat(self, name: str) -> Entry | None:
        """What the store tells of an object; None if it says that there is none."""
        try:
            return self._existing(name)
        except ObjectNotFoundError:
            return None

    def list(self, folder: str = "", *, recursive: bool = False) -> list[Entry]:
        """The objects in a folder, sorted by name; see Directory."""
        found = self._infos(self._path(folder) if folder else self._root, recursive=recursive)
        entries = [_entry(self._name(info), info) for info in found]
        return sorted(entry for entry in entries if not is_staged(entry.name))

    def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
        """Creates or replaces an object, and returns its tag; see Directory."""
        self._warn(only)
        path = self._path(name)
        self._call(f"write {self.url}/{name}", lambda: self._publish(path, lambda to: self._write(to, bytes(data))))
        return self._existing(name).tag

    def upload(self, name: str, size_bytes: int, *, only: Condition | None = None) -> Upload:
        """Begins a large object in a local file; see Directory."""
        self._warn(only)
        path = self._path(name)

        def publish() -> str:
            self._call(f"write {self.url}/{name}", lambda: self._publish(path, lambda to: self._put(staged, to)))
            return self._existing(name).tag

        with translated(f"stage {self.url}/{name} on the local disk"):
            descriptor, local = tempfile.mkstemp(prefix="runner-upload-")
            staged = Path(local)
            upload = LocalUpload(name, size_bytes, path=staged, descriptor=descriptor, durable=False, publish=publish)
            try:
                upload.reserve()
            except BaseException:
                upload.abort()
                raise
        return upload

    def delete(self, name: str) -> None:
        """Deletes an object; one that is missing is fine."""
        path = self._path(name)
        with suppress(ObjectNotFoundError):
            self._call(f"delete {self.url}/{name}", lambda: self._fs.rm_file(path))

    def locked(self) -> AbstractContextManager[None]:
        """Keeps nobody out."""
        return nullcontext()

    def abort_uploads(self, *, older_than: timedelta) -> int:
        """Deletes the objects in the making that are so old; returns how many. The clocks are taken to agree."""
        before = datetime.now(UTC) - older_than
        found = [_entry(self._name(info), info) for info in self._infos(self._root, recursive=True)]
        left = [entry for entry in found if is_staged(entry.name) and entry.modified_at < before]
        for entry in left:
            path = f"{self._root}/{entry.name}"
            with suppress(ObjectNotFoundError):
                self._call(f"delete {path}", lambda path=path: self._fs.rm_file(path))  # type: ignore[misc]
        return len(left)

    def _path(self, name: str) -> str:
        return f"{self._root}/{checked_name(name, self.url)}"

    def _name(self, info: dict[str, Any]) -> str:
        # Some clients give the names in a listing a slash in front, and others do not.
        name: str = info["name"].lstrip("/")
        return name.removeprefix(self._root.lstrip("/")).lstrip("/")

    def _call(self, what: str, attempt: Callable[[], T]) -> T:
        def translated_attempt() -> T:
            with translated(what):
                return attempt()

        return self._retry.call(translated_attempt, what)

    def _existing(self, name: str) -> Entry:
        path = self._path(name)
        # Never exists(), to which any error is absence.
        info = self._call(f"look for {self.url}/{name}", lambda: self._fs.info(path))
        if info["type"] != "file":
            raise ObjectNotFoundError(f"{self.url}/{name} is a folder and no object.")
        return _entry(name, info)

    def _infos(self, path: str, *, recursive: bool) -> Iterator[dict[str, Any]]:
        # Never find() or walk(), which leave out what they cannot list.
        try:
            found = self._call(f"list {path}", lambda: self._fs.ls(path, detail=True))
        except ObjectNotFoundError:
            return
        for info in found:
            if info["name"].strip("/") == path.strip("/"):  # a file, or the folder's own mark in an object store
                continue
            if info["type"] == "file":
                yield info
            elif recursive and info["type"] == "directory":
                yield from self._infos(info["name"].rstrip("/"), recursive=True)

    def _publish(self, path: str, write: Callable[[str], None]) -> None:
        if not self._renames:
            write(path)
            return
        staged = staged_name(path)
        try:
            write(staged)
            self._fs.mv(staged, path)
        except BaseException:
            with suppress(OSError):
                self._fs.rm_file(staged)
            raise

    def _write(self, path: str, data: bytes) -> None:
        self._make_folder(path)
        self._fs.pipe_file(path, data)

    def _put(self, local: Path, path: str) -> None:
        self._make_folder(path)
        self._fs.put_file(str(local), path)

    def _make_folder(self, path: str) -> None:
        # An object store has no folders, and its clients may take this for a wish for a bucket.
        if self._renames:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _warn(self, only: Condition | None) -> None:
        if only is not None and not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "%s: writes cannot be made conditional on %s://. Nothing but the lease of a job keeps a second writer "
                "out: let no two programs use this model_dir.",
                self.url,
                self.url.split("://", 1)[0],
            )


def _entry(name: str, info: dict[str, Any]) -> Entry:
    facts = [(key, str(info[key])) for key in (*_VERSION_KEYS, *_TIME_KEYS) if info.get(key) is not None]
    tag = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    return Entry(name, info["size"], _modified_at(info), tag)


def _modified_at(info: dict[str, Any]) -> datetime:
    """When an object was written; 1970 if the store does not tell."""
    found = next((info[key] for key in _TIME_KEYS if info.get(key) is not None), 0)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    if not isinstance(found, datetime):
        return datetime.fromtimestamp(found, UTC)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
