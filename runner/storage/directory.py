"""A model_dir as a place for named bytes: what every store can do, whatever it is."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Self

__all__ = ["Condition", "Directory", "Entry", "IfAbsent", "IfUnchanged", "Stored", "Upload"]


@dataclass(frozen=True, order=True)
class Entry:
    """What a store tells of one object.

    Attributes:
        name: Relative to the directory, "/" between its parts.
        size_bytes: Of its content.
        modified_at: When it was written, by the clock of the store; UTC.
        tag: Changes with the content. That of an object store may be a hash of it: equal content, equal tag.
    """

    name: str
    size_bytes: int
    modified_at: datetime
    tag: str


class Stored(NamedTuple):
    """The content of an object, and the tag that it had when it was read."""

    data: bytes
    tag: str


@dataclass(frozen=True)
class IfAbsent:
    """Write only where there is no object of that name."""


@dataclass(frozen=True)
class IfUnchanged:
    """Write only over the object that still has this tag."""

    tag: str


Condition = IfAbsent | IfUnchanged


class Upload(ABC):
    """A large object in the making, which nobody sees before `commit`.

    A context manager: left without a commit, it is aborted.

    Args:
        name: Of the object.
        size_bytes: Of all of its parts together.
        part_size_bytes: Of every part but the last.
    """

    def __init__(self, name: str, size_bytes: int, *, part_size_bytes: int) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self.part_size_bytes = part_size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    @property
    def part_count(self) -> int:
        """How many parts there are, all of which must be put before `commit`; none in an empty object."""
        return -(-self.size_bytes // self.part_size_bytes)

    def check_part(self, index: int, size_bytes: int) -> None:
        """Raises ValueError unless there is such a part, of that size."""
        if not 0 <= index < self.part_count:
            raise ValueError(
                f"{self.name} has no part {index}: its {self.size_bytes} bytes are {self.part_count} parts."
            )
        expected = min(self.part_size_bytes, self.size_bytes - index * self.part_size_bytes)
        if size_bytes != expected:
            raise ValueError(f"Part {index} of {self.name} has {size_bytes} bytes: expected {expected}.")

    def check_complete(self, put: Collection[int]) -> None:
        """Raises ValueError unless all parts are among those that have been put."""
        if missing := sorted(set(range(self.part_count)).difference(put)):
            raise ValueError(f"Parts {missing} of {self.name} have not been put.")

    @abstractmethod
    def put(self, index: int, pieces: Sequence[memoryview]) -> None:
        """Writes the part that begins at `index * part_size_bytes`. Thread-safe; may be repeated, the last one counts.

        Args:
            index: From 0; parts may be put in any order.
            pieces: Contiguous views of bytes, one after the other; they are not kept.

        Raises:
            ValueError: There is no such part, or the pieces are not as long as it.
            StorageError: The store did not take it.
        """

    @abstractmethod
    def commit(self) -> str:
        """Makes the object appear, whole and durable, and returns its tag. May be called once.

        Raises:
            ValueError: A part is missing.
            ConditionFailedError: The condition no longer holds; the upload is aborted.
            StorageError: The store did not do it.
        """

    @abstractmethod
    def abort(self) -> None:
        """Throws away what has been put. Idempotent, and without effect after a commit."""


class Directory(ABC):
    """A place for objects. Thread-safe; nothing is cached; transient errors are retried within a stated budget.

    Every method may raise StorageError or one of its kinds: StoreUnavailableError, StoreAccessError, StoreFullError.
    Names are relative, with "/" between their parts; one that leads out of the directory is a ValueError.

    Attributes:
        url: What `resolve_model_dir` returned: an absolute local path, or a URL without a slash at its end.
        locks: Whether `locked` excludes all other writers.
        conditional: Whether conditions are honoured. Where they are not they are ignored, which the log says once.
    """

    url: str
    locks: bool
    conditional: bool

    @abstractmethod
    def check_writable(self) -> None:
        """Finds out whether objects can be written; creates a local directory that is missing.

        Raises:
            ModelDirError: They cannot.
        """

    @abstractmethod
    def read(self, name: str) -> Stored:
        """The whole content of an object, and its tag.

        Raises:
            ObjectNotFoundError: There is no such object.
        """

    def read_bytes(self, name: str) -> bytes:
        """The whole content of an object.

        Raises:
            ObjectNotFoundError: There is no such object.
        """
        return self.read(name).data

    @abstractmethod
    def read_if_changed(self, name: str, tag: str) -> Stored | None:
        """The content of an object unless it still has that tag, which costs one small request.

        Raises:
            ObjectNotFoundError: There is no such object.
        """

    @abstractmethod
    def read_into(self, name: str, buffer: memoryview, *, offset: int = 0, tag: str | None = None) -> None:
        """Fills a buffer from part of an object.

        Args:
            name: Of the object.
            buffer: Contiguous and writable. After an error its content is undefined.
            offset: First byte to read.
            tag: That the object must have; None: any.

        Raises:
            ObjectNotFoundError: There is no such object.
            ConditionFailedError: It has another tag.
            StorageError: It is too short.
        """

    @abstractmethod
    def stat(self, name: str) -> Entry | None:
        """What the store tells of an object; None only if the store says that there is none."""

    @abstractmethod
    def list(self, folder: str = "", *, recursive: bool = False) -> list[Entry]:
        """The objects in a folder, sorted by name; empty if the folder is missing.

        Args:
            folder: Relative to this directory, without a slash at its end; "" is the directory itself.
            recursive: Those of the folders in it, too. Folders themselves are never listed.
        """

    @abstractmethod
    def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
        """Creates or replaces an object, and returns its tag. A reader sees all of it or none, also after a crash.

        After a lost reply a conditional write may be refused because its own first attempt won.

        Args:
            name: Folders on the way are created.
            data: All of its content.
            only: What must hold at the moment it is written.

        Raises:
            ConditionFailedError: It does not.
        """

    @abstractmethod
    def upload(self, name: str, size_bytes: int, *, only: Condition | None = None) -> Upload:
        """Begins a large object, which is written in parts and appears with `Upload.commit`.

        Args:
            name: Folders on the way are created.
            size_bytes: Of all of it.
            only: What must hold at the moment of the commit.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Deletes an object; one that is missing is fine."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Keeps all other writers out, if `locks`; else nothing. Reentrant in a thread."""

    @abstractmethod
    def abort_uploads(self, *, older_than: timedelta) -> int:
        """Throws away what uploads left that were never committed, and returns how many.

        Args:
            older_than: Since their last sign of life, by the clock of the store.
        """
