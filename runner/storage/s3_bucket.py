"""Requests to one bucket: repeated after transient errors, and with our errors for those of botocore and aiohttp."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from runner.errors import ConditionFailedError, ObjectNotFoundError
from runner.storage.directory import Condition
from runner.storage.failures import translated
from runner.storage.retry import Retry
from runner.storage.s3_advice import advice_on
from runner.storage.s3_calls import S3Calls
from runner.storage.s3_conditions import as_parameters
from runner.storage.s3_requests import Part, S3Requests, Transfers, etag_in

__all__ = ["S3Bucket"]

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class S3Bucket:
    """What can be asked of a bucket. Thread-safe.

    Args:
        name: Of the bucket.
        own_requests: Whether large objects go by our own requests; else by s3fs, as everything else.
        retry: How often transient errors are tried again.

    Attributes:
        name: Of the bucket.
        calls: The API of the store, without repetition and in its own errors.
    """

    def __init__(self, name: str, *, own_requests: bool, retry: Retry) -> None:
        self.name = name
        self.calls = S3Calls(name)
        self._own_requests = own_requests
        self._retry = retry
        self._lock = threading.Lock()
        self._transfers: Transfers | None = None

    def run(self, what: str, attempt: Callable[[], T], *, progress: Callable[[], object] = lambda: None) -> T:
        """Returns what an attempt returns, which may be repeated.

        Args:
            what: What is attempted, for messages: "read s3://bucket/iris/checkpoint".
            attempt: Raises errors of botocore, aiohttp or the system.
            progress: See Retry.

        Raises:
            StorageError: One of its kinds.
        """

        def translated_attempt() -> T:
            with translated(what, advise=self.advice_on):
                return attempt()

        return self._retry.call(translated_attempt, what, progress=progress)

    def advice_on(self, error: BaseException) -> str | None:
        """What is to be done about an error, which `run` says with it; None if nothing that is particular to S3."""
        return advice_on(error, bucket=self.name, endpoint=lambda: self.calls.endpoint_url)

    def call(self, what: str, method: str, **parameters: object) -> dict[str, Any]:
        """Calls a method of the API; see `run`."""
        return self.run(what, lambda: self.calls.call(method, **parameters))

    def get(self, key: str, **parameters: object) -> tuple[dict[str, Any], bytes]:
        """An object: the reply and its body; see `run`."""
        return self.run(f"read {self.url_of(key)}", lambda: self.calls.get(key, **parameters))

    def objects(self, prefix: str, *, recursive: bool = True) -> Iterator[dict[str, Any]]:
        """What the store tells of all objects whose keys begin so; see `run`.

        Args:
            prefix: With a slash at its end if it is that of a folder.
            recursive: Those too with a further slash in their keys.
        """
        parameters = {"Prefix": prefix} if recursive else {"Prefix": prefix, "Delimiter": "/"}
        while True:
            page = self.call(f"list {self.url_of(prefix)}", "list_objects_v2", **parameters)
            yield from page.get("Contents", [])
            if not page.get("IsTruncated"):
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]

    def put_object(self, key: str, pieces: Sequence[memoryview], *, only: Condition | None) -> str:
        """Writes an object from memory, and returns its ETag; see `run`."""
        conditions = as_parameters(only)
        return self.write(key, only, lambda: self._transfer().put_object(key, pieces, **conditions))

    def write(self, key: str, only: Condition | None, send: Callable[[], T]) -> T:
        """Sends a request that writes an object; see `run`.

        Raises:
            ConditionFailedError: The condition does not hold.
        """
        try:
            return self.run(f"write {self.url_of(key)}", send)
        except ObjectNotFoundError as error:
            if only is None:
                raise
            # So says AWS to an If-Match for an object that was deleted.
            raise ConditionFailedError(f"{self.url_of(key)} has been deleted.") from error

    def create_upload(self, key: str) -> str:
        """Begins a multipart upload, and returns its id; see `run`."""
        checksum = {"ChecksumAlgorithm": algorithm} if (algorithm := self._transfer().checksum_algorithm) else {}
        reply = self.call(f"begin {self.url_of(key)}", "create_multipart_upload", Key=key, **checksum)
        upload_id: str = reply["UploadId"]
        return upload_id

    def tag_of(self, key: str) -> str | None:
        """The ETag of an object; None if there is none; see `run`."""
        try:
            return etag_in(self.call(f"look for {self.url_of(key)}", "head_object", Key=key))
        except ObjectNotFoundError:
            return None

    def upload_part(self, key: str, pieces: Sequence[memoryview], *, upload_id: str, number: int) -> Part:
        """Writes a part from memory; see `run`."""
        return self.run(
            f"write part {number} of {self.url_of(key)}",
            lambda: self._transfer().upload_part(key, pieces, upload_id=upload_id, number=number),
        )

    def read_into(self, key: str, view: memoryview, *, offset: int, only: Condition | None) -> None:
        """Fills a view of bytes, which is not empty; see `run`."""
        received = 0

        def attempt() -> None:
            nonlocal received
            if only is None:
                received = 0  # what follows may be of another version by now
            if rest := view[received:]:
                for count in self._transfer().receive(key, rest, offset=offset + received, **as_parameters(only)):
                    received += count

        self.run(f"read {self.url_of(key)}", attempt, progress=lambda: only and received)

    def url_of(self, key: str) -> str:
        """The URL of an object."""
        return f"s3://{self.name}/{key}"

    def _transfer(self) -> Transfers:
        with self._lock:
            if self._transfers is None:
                self._transfers = self._new_transfers()
            return self._transfers

    def _new_transfers(self) -> Transfers:
        if not self._own_requests:
            return self.calls
        requests = S3Requests(self.name)
        if not requests.has_proxy:
            return requests
        _logger.info("s3://%s is behind a proxy: large objects go by s3fs, which takes more processor time.", self.name)
        return self.calls
