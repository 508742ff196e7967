"""A directory on a local disk, or on one that is mounted, such as NFS."""

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from runner.errors import ConditionFailedError, ModelDirError, ObjectNotFoundError, StorageError
from runner.storage.conditions import check_condition
from runner.storage.directory import Condition, Directory, Entry, Stored, Upload
from runner.storage.failures import translated
from runner.storage.file_lock import FileLock
from runner.storage.local_upload import LocalUpload
from runner.storage.names import checked_name, is_staged, staged_name

__all__ = ["LocalDirectory"]

_LOCK = ".runner/lock"
_FILE_MODE = 0o644
_TICK_NANOSECS = 1_000_000


class LocalDirectory(Directory):
    """Files below a path.

    What is written is staged beside its final name and renamed, so that a reader sees all of it or none. Conditions
    are compared, and files renamed and deleted, inside a lock on `.runner/lock`, so that they hold between processes.

    Args:
        url: Absolute path.
        durable: Whether what was written survives a power loss. Without it the system writes it out when it likes.
    """

    locks = True
    conditional = True

    def __init__(self, url: str, *, durable: bool = True) -> None:
        self.url = url
        self.durable = durable
        self._root = Path(url)
        self._lock = FileLock(self._root / _LOCK)

    def check_writable(self) -> None:
        """Creates the directory if it is missing, and a file in it that it deletes again.

        Raises:
            ModelDirError: One of the two is not possible.
        """
        # Asking for permissions is not enough: root passes, and a read-only or full file system does not show.
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._root, prefix=".writable.tmp-") as file:
                file.write(b"\0")
                file.flush()
        except OSError as error:
            raise ModelDirError(
                f"model_dir {self.url} cannot be written: {error.strerror or error}. "
                "Make it writable for this user, or choose another model_dir."
            ) from error

    def read(self, name: str) -> Stored:
        """The whole content of a file, and its tag; see Directory."""
        with self._reading(name) as (descriptor, found), os.fdopen(os.dup(descriptor), "rb") as file:
            return Stored(file.read(), _tag(found))

    def read_if_changed(self, name: str, tag: str) -> Stored | None:
        """The content of a file unless it still has that tag; see Directory."""
        with self._reading(name) as (descriptor, found):
            if _tag(found) == tag:
                return None
            with os.fdopen(os.dup(descriptor), "rb") as file:
                return Stored(file.read(), _tag(found))

    def read_into(self, name: str, buffer: memoryview, *, offset: int = 0, tag: str | None = None) -> None:
        """Fills a buffer from part of a file; see Directory."""
        rest = buffer.cast("B")
        with self._reading(name) as (descriptor, found):
            if tag is not None and _tag(found) != tag:
                raise ConditionFailedError(f"{self.url}/{name} has been replaced while it was read.")
            while rest and (count := os.preadv(descriptor, [rest], offset)):
                rest, offset = rest[count:], offset + count
        if rest:
            raise StorageError(f"{self.url}/{name} ends at byte {offset}, {len(rest)} bytes too early.")

    def stat(self, name: str) -> Entry | None:
        """What the disk tells of a file; None if there is none."""
        path = self._path(name)
        with translated(f"look for {path}"):
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _entry(name, found) if stat.S_ISREG(found.st_mode) else None

    def list(self, folder: str = "", *, recursive: bool = False) -> list[Entry]:
        """The files in a folder, sorted by name; see Directory. Links to folders are not followed."""
        path = self._path(folder) if folder else self._root
        with translated(f"list {path}"):
            return sorted(self._entries(path, f"{folder}/" if folder else "", recursive=recursive))

    def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
        """Creates or replaces a file, and returns its tag; see Directory."""
        staged, descriptor = self._stage(name)
        try:
            with translated(f"write {self.url}/{name}"):
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                if self.durable:
                    # Without this a power loss after the rename could leave an empty file under the final name.
                    os.fsync(descriptor)
            return self._publish(staged, descriptor, name, only=only)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def upload(self, name: str, size_bytes: int, *, only: Condition | None = None) -> Upload:
        """Begins a large file, all of whose blocks it reserves; see Directory."""
        staged, descriptor = self._stage(name)
        upload = LocalUpload(
            name,
            size_bytes,
            path=staged,
            descriptor=descriptor,
            durable=self.durable,
            publish=partial(self._publish, staged, descriptor, name, only=only),
        )
        try:
            with translated(f"reserve {size_bytes} bytes for {self.url}/{name}"):
                upload.reserve()
        except BaseException:
            upload.abort()
            raise
        return upload

    def delete(self, name: str) -> None:
        """Deletes a file; one that is missing is fine."""
        path = self._path(name)
        with (
            translated(f"delete {path}"),
            self._lock.held(create=False),
            suppress(FileNotFoundError, NotADirectoryError),
        ):
            path.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps all other writers out, in other processes too."""
        with ExitStack() as stack:
            with translated(f"lock {self._root / _LOCK}"):
                stack.enter_context(self._lock.held())
            yield

    def abort_uploads(self, *, older_than: timedelta) -> int:
        """Deletes the files in the making that nobody has written to for so long; returns how many."""
        count = 0
        before = time.time() - older_than.total_seconds()
        for folder, _, names in os.walk(self._root):
            for path in (Path(folder, name) for name in names if is_staged(name)):
                with translated(f"delete {path}"), suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()
                        count += 1
        return count

    def _path(self, name: str) -> Path:
        return self._root / checked_name(name, self.url)

    @contextmanager
    def _reading(self, name: str) -> Iterator[tuple[int, os.stat_result]]:
        """An open file and what the disk tells of it: the same file for as long as it is open."""
        path = self._path(name)
        with translated(f"read {path}"):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise ObjectNotFoundError(f"{path} is a folder and no file.")
                yield descriptor, found
            finally:
                os.close(descriptor)

    def _entries(self, path: Path, prefix: str, *, recursive: bool) -> Iterator[Entry]:
        try:
            found = list(os.scandir(path))
        except (FileNotFoundError, NotADirectoryError):
            return
        for each in found:
            name = prefix + each.name
            if each.is_dir(follow_symlinks=False):
                if recursive:
                    yield from self._entries(path / each.name, f"{name}/", recursive=True)
            elif not is_staged(name) and name != _LOCK:
                # A file that is deleted meanwhile is none.
                with suppress(FileNotFoundError):
                    if stat.S_ISREG((status := each.stat()).st_mode):
                        yield _entry(name, status)

    def _stage(self, name: str) -> tuple[Path, int]:
        """A new file beside the one of that name, and its descriptor."""
        path = self._path(name)
        staged = path.with_name(staged_name(path.name))
        with translated(f"write {path}"):
            self._make_folder(path.parent)
            # Workers may run as another user of the same group.
            return staged, os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)

    def _make_folder(self, path: Path) -> None:
        if path.is_dir():
            return
        self._make_folder(path.parent)
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise StorageError(f"{path} is a file: nothing can be written below it.") from error
        if self.durable:
            _sync(path.parent)

    def _publish(self, staged: Path, descriptor: int, name: str, *, only: Condition | None) -> str:
        """Renames a staged file if the condition holds, and returns its tag."""
        path = self._path(name)
        # An unconditional write only has somebody to wait for if there are others: it makes no lock where none is.
        with translated(f"write {path}"), self._lock.held(create=only is not None):
            before = _status(path)
            check_condition(only, None if before is None else _tag(before), str(path))
            _stamp(descriptor, before)
            os.replace(staged, path)
            tag = _tag(os.fstat(descriptor))
            if self.durable:
                _sync(path.parent)
        return tag


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _stamp(descriptor: int, before: os.stat_result | None) -> None:
    # The clock of a file system ticks every few milliseconds, and a deleted file's inode is used again at once: without
    # this the second of two quick writes could look like the file before both.
    nanosecs = os.fstat(descriptor).st_mtime_ns + time.perf_counter_ns() % _TICK_NANOSECS
    if before is not None:
        nanosecs = max(nanosecs, before.st_mtime_ns + 1)
    os.utime(descriptor, ns=(nanosecs, nanosecs))


def _tag(found: os.stat_result) -> str:
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"


def _entry(name: str, found: os.stat_result) -> Entry:
    return Entry(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC), _tag(found))


def _sync(folder: Path) -> None:
    """Makes what was renamed into a folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
