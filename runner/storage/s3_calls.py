"""All other requests to an S3 store, and those too where ours are not wanted: through s3fs."""

from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import s3fs
from fsspec.asyn import sync

from runner.storage.s3_requests import Part, byte_range, check_range, etag_in

__all__ = ["S3Calls"]

T = TypeVar("T")

_CONNECT_SECS = 10
_SILENCE_SECS = 30
# For a request as a whole: s3fs has no other limit for a server that does not take what it is sent.
_REQUEST_SECS = 300


class S3Calls:
    """Calls of the S3 API, each one attempt. Thread-safe. Endpoint, region and credentials are botocore's to find.

    Args:
        bucket: Of the objects.
    """

    checksum_algorithm: str | None = None

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        # An instance of our own: s3fs gives one to all who ask alike, whatever AWS_* is by then.
        self._fs = s3fs.S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={
                "connect_timeout": _CONNECT_SECS,
                "read_timeout": _SILENCE_SECS,
                "retries": {"total_max_attempts": 1},
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        )

    @property
    def endpoint_url(self) -> str:
        """Where the store is: what AWS_ENDPOINT_URL says, or else AWS's own address."""
        url: str = sync(self._fs.loop, self._fs.set_session).meta.endpoint_url
        return url

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Calls a method of botocore's client, such as list_objects_v2, for the bucket.

        Raises:
            Exception: Of botocore, aiohttp or the system, as it comes.
        """
        return self._run(self._call(method, parameters))

    def get(self, key: str, **parameters: object) -> tuple[dict[str, Any], bytes]:
        """An object, or a range of it: the reply and its body."""

        async def get_all() -> tuple[dict[str, Any], bytes]:
            reply = await self._call("get_object", {"Key": key, **parameters})
            async with reply["Body"] as body:
                return reply, await body.read()

        return self._run(get_all())

    def put_object(self, key: str, pieces: Sequence[memoryview], **conditions: str) -> str:
        """Writes an object; see Transfers."""
        return etag_in(self.call("put_object", Key=key, Body=b"".join(pieces), **conditions))

    def upload_part(self, key: str, pieces: Sequence[memoryview], *, upload_id: str, number: int) -> Part:
        """Writes a part; see Transfers."""
        reply = self.call("upload_part", Key=key, UploadId=upload_id, PartNumber=number, Body=b"".join(pieces))
        return Part(etag_in(reply), None)

    def receive(self, key: str, view: memoryview, *, offset: int, **conditions: str) -> Iterator[int]:
        """Fills a view; see Transfers."""
        reply, data = self.get(key, Range=byte_range(offset, view), **conditions)
        check_range(reply, offset, view, key=key)
        view[:] = data
        yield len(data)

    async def _call(self, method: str, parameters: dict[str, object]) -> dict[str, Any]:
        # The client itself: s3fs's own call would retry, for which there is one place, and that is not here.
        client = await self._fs.set_session()
        reply: dict[str, Any] = await getattr(client, method)(Bucket=self._bucket, **parameters)
        return reply

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        found: T = sync(self._fs.loop, lambda: call, timeout=_REQUEST_SECS)
        return found
