"""Large objects in the making on S3."""

import hashlib
import logging
import re
import threading
import uuid
from collections.abc import Sequence
from urllib.parse import quote

from runner.errors import ConditionFailedError, ObjectNotFoundError, StorageError
from runner.storage.directory import Condition, Upload
from runner.storage.s3_bucket import S3Bucket
from runner.storage.s3_conditions import as_parameters, as_rename_parameters
from runner.storage.s3_requests import Part, etag_in

__all__ = ["MultipartUpload", "SmallUpload", "part_bytes"]

_logger = logging.getLogger(__name__)

# What a request costs besides its bytes no longer counts at this size, and to repeat one is still cheap.
_PART_BYTES = 16 << 20
_MAX_PARTS = 10_000
_MIB = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")


def part_bytes(size_bytes: int) -> int:
    """The size of the parts of an upload, which may be 10,000 at most."""
    return max(_PART_BYTES, -(-size_bytes // _MAX_PARTS // _MIB) * _MIB)


class _S3Upload(Upload):
    """What both kinds of uploads have in common: they end once.

    Args:
        bucket: Where the object will be.
        name: Of the object, for messages.
        size_bytes: Of all of it.
        key: Of the object.
        only: What must hold at the commit.
    """

    def __init__(self, bucket: S3Bucket, name: str, size_bytes: int, *, key: str, only: Condition | None) -> None:
        super().__init__(name, size_bytes, part_size_bytes=part_bytes(size_bytes))
        self._bucket = bucket
        self._key = key
        self._only = only
        self._lock = threading.Lock()
        self._has_ended = False

    def _check_open(self) -> None:
        if self._has_ended:
            raise ValueError(f"The upload of {self.name} has ended already.")


class SmallUpload(_S3Upload):
    """One of a single part, which waits in memory for the commit and is then written by one request."""

    _data: bytes | None = None

    def put(self, index: int, pieces: Sequence[memoryview]) -> None:
        """Keeps a copy of the only part; see Upload."""
        self._check_open()
        data = b"".join(pieces)
        self.check_part(index, len(data))
        self._data = data

    def commit(self) -> str:
        """Writes the object; see Upload."""
        self._check_open()
        self.check_complete([] if self._data is None else [0])
        pieces = [memoryview(self._data or b"")]
        try:
            return self._bucket.put_object(self._key, pieces, only=self._only)
        finally:
            self.abort()

    def abort(self) -> None:
        """Forgets the part; see Upload."""
        self._has_ended = True
        self._data = None


class MultipartUpload(_S3Upload):
    """One whose parts the store keeps until they are put together.

    Args:
        bucket: Where the object will be.
        name: Of the object, for messages.
        size_bytes: Of all of it.
        key: Of the object.
        only: What must hold at the commit.
        staged_key: Where it is put together, to be renamed, if that is what the store can do under a condition.
    """

    def __init__(
        self,
        bucket: S3Bucket,
        name: str,
        size_bytes: int,
        *,
        key: str,
        only: Condition | None,
        staged_key: str | None = None,
    ) -> None:
        super().__init__(bucket, name, size_bytes, key=key, only=only)
        self._staged_key = staged_key
        self._target = staged_key or key
        self._parts: dict[int, Part] = {}
        self._upload_id = bucket.create_upload(self._target)

    def put(self, index: int, pieces: Sequence[memoryview]) -> None:
        """Writes a part; see Upload."""
        self._check_open()
        self.check_part(index, sum(piece.nbytes for piece in pieces))
        number = index + 1
        part = self._bucket.upload_part(
            self._target,
            [piece.cast("B") for piece in pieces if piece.nbytes],
            upload_id=self._upload_id,
            number=number,
        )
        with self._lock:
            self._parts[number] = part

    def commit(self) -> str:
        """Puts the parts together, and gives the object its name; see Upload."""
        self._check_open()
        self.check_complete([number - 1 for number in self._parts])
        if self._staged_key is None:
            tag = self._complete(self._only)
        else:
            tag = self._complete(None)
            self._rename(self._staged_key)
        self._has_ended = True
        return tag

    def abort(self) -> None:
        """Has the store forget the parts; see Upload. What it does not forget now, `abort_uploads` finds."""
        if self._has_ended:
            return
        self._has_ended = True
        self._try_once("abort_multipart_upload", Key=self._target, UploadId=self._upload_id)
        if self._staged_key is not None:
            # If it is there, the parts have been put together, and there was no upload to abort any more.
            self._try_once("delete_object", Key=self._staged_key)

    def _try_once(self, method: str, **parameters: object) -> None:
        # Who aborts has an error to report, and is not to wait for a store that is down.
        try:
            self._bucket.calls.call(method, **parameters)
        except Exception as error:  # noqa: BLE001 - whatever the client raises: it is logged, and nothing depends on it
            _logger.info("The upload to %s could not be aborted: %s", self._bucket.url_of(self._key), error)

    def _complete(self, only: Condition | None) -> str:
        parts = [_named(number, part) for number, part in sorted(self._parts.items())]
        attempts = 0

        def attempt() -> str:
            nonlocal attempts
            attempts += 1
            return etag_in(
                self._bucket.calls.call(
                    "complete_multipart_upload",
                    Key=self._target,
                    UploadId=self._upload_id,
                    MultipartUpload={"Parts": parts},
                    **as_parameters(only),
                )
            )

        try:
            return self._bucket.write(self._key, only, attempt)
        except StorageError:
            # The first attempt may have done it, and only its reply been lost: then the upload is no longer there.
            if attempts > 1 and (tag := self._tag_of_parts()) == self._bucket.tag_of(self._target):
                return tag
            raise

    def _tag_of_parts(self) -> str:
        """The ETag of the object if the store makes it as AWS does: the MD5 of those of its parts."""
        tags = [part.etag for _, part in sorted(self._parts.items())]
        if not all(_MD5.fullmatch(tag) for tag in tags):
            return ""
        digest = hashlib.md5(b"".join(map(bytes.fromhex, tags)), usedforsecurity=False).hexdigest()
        return f"{digest}-{len(tags)}"

    def _rename(self, staged_key: str) -> None:
        url = self._bucket.url_of(self._key)
        try:
            self._bucket.call(
                f"write {url}",
                "rename_object",
                Key=self._key,
                RenameSource=quote(staged_key),
                # By this the store knows a repetition, after a lost reply, for what it is.
                ClientToken=str(uuid.uuid4()),
                **as_rename_parameters(self._only),
            )
        except ObjectNotFoundError as error:
            raise ConditionFailedError(
                f"{url} was not written: its content is gone. A first request, whose reply was lost, may have done it."
            ) from error


def _named(number: int, part: Part) -> dict[str, object]:
    checksum = {} if part.crc32c is None else {"ChecksumCRC32C": part.crc32c}
    return {"PartNumber": number, "ETag": f'"{part.etag}"', **checksum}
