"""A directory in an S3 bucket: AWS, and whatever else speaks its API."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, timedelta
from functools import lru_cache
from typing import Any

from botocore.exceptions import ClientError

from runner.errors import ConditionFailedError, ObjectNotFoundError
from runner.settings import Settings
from runner.storage.directory import Condition, Directory, Entry, IfUnchanged, Stored, Upload
from runner.storage.names import checked_name, is_staged, staged_name
from runner.storage.retry import Retry
from runner.storage.s3_access import check_access
from runner.storage.s3_bucket import S3Bucket
from runner.storage.s3_conditions import Honoured, probe
from runner.storage.s3_leftovers import sweep
from runner.storage.s3_requests import etag_in
from runner.storage.s3_upload import MultipartUpload, SmallUpload, part_bytes

__all__ = ["S3Directory"]

_logger = logging.getLogger(__name__)

# What is not, or not yet, part of a checkpoint is kept apart, where it is found without a listing of everything.
_STAGING = ".runner/uploads"
_NOT_MODIFIED = 304
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class S3Directory(Directory):
    """Objects below a prefix. The tag of an object is its ETag.

    Endpoint, region, credentials, certificates and proxies are found by botocore in its own variables AWS_* and files.

    Args:
        url: What `resolve_model_dir` returned: s3://bucket/prefix, or s3://bucket.
        own_requests: Whether large objects go from and into memory by our own requests, or by s3fs. None: as
            RUNNER_S3_REQUESTS says.
        retry: How often transient errors are tried again.
    """

    locks = False

    def __init__(self, url: str, *, own_requests: bool | None = None, retry: Retry | None = None) -> None:
        self.url = url
        bucket, _, path = url.removeprefix("s3://").partition("/")
        self._root = f"{path}/" if path else ""
        if own_requests is None:
            own_requests = Settings.from_environ().s3_requests == "own"
        self._bucket = _shared_bucket(bucket, own_requests=own_requests, retry=retry or Retry(), place=_place())
        self._lock = threading.Lock()
        self._honoured: Honoured | None = None

    @property
    def conditional(self) -> bool:  # type: ignore[override]
        """Whether conditions are honoured, which is found out once, by a few small writes.

        Raises:
            StorageError: Nothing can be written.
        """
        return self._find_out() is not Honoured.NOTHING

    def check_writable(self) -> None:
        """Writes a small object, reads, lists and deletes it, and finds out what the store makes of conditions.

        Raises:
            ModelDirError: One of these is not possible; the message says what to do.
        """
        check_access(self._bucket, self._staged_key("writable"), url=self.url)
        self._find_out()

    def read(self, name: str) -> Stored:
        """The whole content of an object, and its tag; see Directory."""
        reply, data = self._bucket.get(self._key(name))
        return Stored(data, etag_in(reply))

    def read_if_changed(self, name: str, tag: str) -> Stored | None:
        """The content of an object unless it still has that tag; see Directory."""
        key = self._key(name)

        def attempt() -> Stored | None:
            try:
                reply, data = self._bucket.calls.get(key, IfNoneMatch=f'"{tag}"')
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == _NOT_MODIFIED:
                    return None
                raise
            return Stored(data, etag_in(reply))

        return self._bucket.run(f"read {self.url}/{name}", attempt)

    def read_into(self, name: str, buffer: memoryview, *, offset: int = 0, tag: str | None = None) -> None:
        """Fills a buffer from part of an object; see Directory."""
        key = self._key(name)
        if buffer.nbytes:
            only = None if tag is None else IfUnchanged(tag)
            self._bucket.read_into(key, buffer.cast("B"), offset=offset, only=only)
            return
        # S3 has no word for an empty range.
        if (found := self._bucket.tag_of(key)) is None:
            raise ObjectNotFoundError(f"There is no object {self.url}/{name}.")
        if tag not in {None, found}:
            raise ConditionFailedError(f"{self.url}/{name} has been replaced while it was read.")

    def stat(self, name: str) -> Entry | None:
        """What the store tells of an object; None if it says that there is none."""
        key = self._key(name)
        # Not HEAD, whose 404 may as well mean that there is no such bucket.
        reply = self._bucket.call(f"look for {self.url}/{name}", "list_objects_v2", Prefix=key, MaxKeys=1)
        return next((self._entry(found) for found in reply.get("Contents", []) if found["Key"] == key), None)

    def list(self, folder: str = "", *, recursive: bool = False) -> list[Entry]:
        """The objects in a folder, sorted by name; see Directory."""
        prefix = f"{self._key(folder)}/" if folder else self._root
        return sorted(entry for entry in self._entries(prefix, recursive=recursive) if not is_staged(entry.name))

    def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
        """Creates or replaces an object, and returns its tag; see Directory."""
        return self._bucket.put_object(self._key(name), [memoryview(data)], only=self._honoured_of(only))

    def upload(self, name: str, size_bytes: int, *, only: Condition | None = None) -> Upload:
        """Begins a large object; see Directory. One of a single part is kept in memory until it is committed."""
        key = self._key(name)
        only = self._honoured_of(only)
        if size_bytes <= part_bytes(size_bytes):
            return SmallUpload(self._bucket, name, size_bytes, key=key, only=only)
        staged_key = None
        if only is not None and self._honoured is Honoured.PUT_AND_RENAME:
            staged_key = self._staged_key(name)
        return MultipartUpload(self._bucket, name, size_bytes, key=key, only=only, staged_key=staged_key)

    def delete(self, name: str) -> None:
        """Deletes an object; one that is missing is fine."""
        self._bucket.call(f"delete {self.url}/{name}", "delete_object", Key=self._key(name))

    def locked(self) -> AbstractContextManager[None]:
        """Keeps nobody out: S3 has no locks."""
        return nullcontext()

    def abort_uploads(self, *, older_than: timedelta) -> int:
        """Aborts the multipart uploads to which nothing has been added for so long; returns how many."""
        staging = f"{self._root}{_STAGING}/"
        return sweep(self._bucket, prefix=self._root, staging=staging, older_than=older_than)

    def _key(self, name: str) -> str:
        return self._root + checked_name(name, self.url)

    def _staged_key(self, name: str) -> str:
        return self._root + staged_name(f"{_STAGING}/{name.rpartition('/')[2]}")

    def _honoured_of(self, only: Condition | None) -> Condition | None:
        """The condition, or none if the store knows none."""
        return only if only is not None and self.conditional else None

    def _find_out(self) -> Honoured:
        with self._lock:
            if self._honoured is None:
                self._honoured = self._bucket.run(
                    f"write below {self.url}/{_STAGING}",
                    lambda: probe(self._bucket.calls, self._staged_key("probe")),
                )
                if self._honoured is Honoured.NOTHING:
                    _logger.warning(
                        "%s: the store ignores the conditions of writes. Nothing but the lease of a job keeps a second "
                        "writer out: let no two programs use this model_dir.",
                        self.url,
                    )
            return self._honoured

    def _entries(self, prefix: str, *, recursive: bool) -> Iterator[Entry]:
        for found in self._bucket.objects(prefix, recursive=recursive):
            # A key with a slash at its end is a mark that a program left for a folder.
            if not found["Key"].endswith("/"):
                yield self._entry(found)

    def _entry(self, found: dict[str, Any]) -> Entry:
        name = found["Key"].removeprefix(self._root)
        return Entry(name, found["Size"], found["LastModified"].astimezone(UTC), etag_in(found))


@lru_cache(maxsize=16)
def _shared_bucket(
    name: str,
    *,
    own_requests: bool,
    retry: Retry,
    place: tuple[object, ...],  # noqa: ARG001 - what it was made under
) -> S3Bucket:
    # The clients in it take a quarter of a second to make, and whoever trains or restores opens a directory many times.
    return S3Bucket(name, own_requests=own_requests, retry=retry)


def _place() -> tuple[object, ...]:
    """What tells two clients apart that were made alike: connections do not survive a fork."""
    variables = ((name, value) for name, value in os.environ.items() if name.upper().startswith(("AWS_", *_PROXIES)))
    return os.getpid(), *sorted(variables)
