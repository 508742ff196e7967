"""PutObject, UploadPart and ranged GetObject, from and into memory: signed by botocore, sent by ourselves."""

import base64
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import botocore.session
import crc32c
from botocore.config import Config
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from runner.errors import StorageError
from runner.storage.s3_transport import Pieces, Transport

__all__ = ["Part", "S3Requests", "Transfers", "byte_range", "check_range", "etag_in"]

# What is asked of a connection at a time: as much is asked for again if it breaks.
_PIECE_BYTES = 1 << 20


class Part(NamedTuple):
    """What a store told of a part that it took.

    Attributes:
        etag: Names its content when the upload is completed.
        crc32c: Its checksum in base64, if the store has compared it; else None.
    """

    etag: str
    crc32c: str | None


class Transfers(Protocol):
    """What moves the bytes of large objects. Thread-safe; one attempt for each call.

    Attributes:
        checksum_algorithm: That of the checksum that it sends with each part, in S3's words; None: it sends none.
    """

    checksum_algorithm: str | None

    def put_object(self, key: str, pieces: Sequence[memoryview], **conditions: str) -> str:
        """Writes an object and returns its ETag.

        Args:
            key: Of the object.
            pieces: Its content.
            conditions: IfMatch or IfNoneMatch.
        """

    def upload_part(self, key: str, pieces: Sequence[memoryview], *, upload_id: str, number: int) -> Part:
        """Writes a part of a multipart upload; its number is from 1."""

    def receive(self, key: str, view: memoryview, *, offset: int, **conditions: str) -> Iterator[int]:
        """Fills a view of bytes, which is not empty, and yields how many more of them are there, as they come."""


class S3Requests:
    """Requests that botocore builds, signs and understands, and whose bytes are neither copied nor hashed by it.

    The body is not part of the signature (UNSIGNED-PAYLOAD), since its SHA-256 would cost more than all the rest;
    a crc32c, which costs next to nothing, is a header of the request instead, and stores that know it refuse a body
    that arrived damaged. Credentials that expire are renewed by botocore.

    Args:
        bucket: Of the objects.
    """

    checksum_algorithm: str | None = "CRC32C"

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._session = botocore.session.get_session()
        config = Config(
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"payload_signing_enabled": False},
        )
        self._client = self._session.create_client("s3", config=config)
        transport = Transport(get_cert_path(self._session.get_config_variable("ca_bundle") or True))
        self._client.meta.events.register("before-send.s3", transport.send)

    @cached_property
    def has_proxy(self) -> bool:
        """Whether the environment wants a proxy between us and the store, which this does not do."""
        url = self._client.meta.endpoint_url
        return url.partition("://")[0] in get_environ_proxies(url)

    def put_object(self, key: str, pieces: Sequence[memoryview], **conditions: str) -> str:
        """Writes an object; see Transfers."""
        reply = self._client.put_object(
            Bucket=self._bucket, Key=key, Body=Pieces(pieces), ChecksumCRC32C=_checksum(pieces), **conditions
        )
        return etag_in(reply)

    def upload_part(self, key: str, pieces: Sequence[memoryview], *, upload_id: str, number: int) -> Part:
        """Writes a part; see Transfers."""
        reply = self._client.upload_part(
            Bucket=self._bucket,
            Key=key,
            UploadId=upload_id,
            PartNumber=number,
            Body=Pieces(pieces),
            ChecksumCRC32C=_checksum(pieces),
        )
        # A store that does not know the header says nothing of it, and then does not want it named again either.
        return Part(etag_in(reply), reply.get("ChecksumCRC32C"))

    def receive(self, key: str, view: memoryview, *, offset: int, **conditions: str) -> Iterator[int]:
        """Fills a view; see Transfers."""
        reply = self._client.get_object(Bucket=self._bucket, Key=key, Range=byte_range(offset, view), **conditions)
        body = reply["Body"]
        try:
            check_range(reply, offset, view, key=key)
            rest = view
            while rest:
                count = body.readinto(rest[:_PIECE_BYTES])
                rest = rest[count:]
                yield count
        finally:
            body.close()


def _checksum(pieces: Sequence[memoryview]) -> str:
    value = 0
    for piece in pieces:
        value = crc32c.crc32c(piece, value)
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def etag_in(reply: dict[str, Any]) -> str:
    """The ETag in a reply, without the quotes that some stores put around it and others do not."""
    tag: str = reply["ETag"]
    return tag.strip('"')


def byte_range(offset: int, view: memoryview) -> str:
    """The range of an object that fills a view, as S3 wants it."""
    return f"bytes={offset}-{offset + len(view) - 1}"


def check_range(reply: dict[str, Any], offset: int, view: memoryview, *, key: str) -> None:
    """Raises StorageError unless a reply has exactly the bytes that a view is to be filled with."""
    told = reply.get("ContentRange", f"bytes 0-{reply['ContentLength'] - 1}")
    if told.partition("/")[0] != f"bytes {offset}-{offset + len(view) - 1}":
        raise StorageError(f"Bytes {offset} to {offset + len(view) - 1} of {key} are not there: the store has {told}.")
