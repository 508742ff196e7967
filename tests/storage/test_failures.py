"""What operating systems and vendors call an error is one of ours."""

import errno
import http.client
import os
import re

import aiohttp
import botocore.exceptions
import pytest
from s3fs.errors import translate_boto_error

from runner.errors import (
    ConditionFailedError,
    ObjectNotFoundError,
    StorageError,
    StoreAccessError,
    StoreFullError,
    StoreUnavailableError,
)
from runner.storage.failures import kind_of_code, kind_of_status, translated, translation


def s3_error(code: str, status: int) -> botocore.exceptions.ClientError:
    response = {"Error": {"Code": code, "Message": "told so"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("number", "ours"),
    [
        (errno.ENOENT, ObjectNotFoundError),
        (errno.EACCES, StoreAccessError),
        (errno.EROFS, StoreAccessError),
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.ECONNRESET, StoreUnavailableError),
        (errno.ECONNREFUSED, StoreUnavailableError),
        (errno.EPIPE, StoreUnavailableError),
        (errno.ETIMEDOUT, StoreUnavailableError),
        (errno.EIO, StorageError),
        (errno.EISDIR, StorageError),
    ],
)
def test_an_error_of_the_system_is_ours(number: int, ours: type[StorageError]) -> None:
    error = translation(OSError(number, os.strerror(number)), "write /data/a")

    assert type(error) is ours
    assert str(error).startswith(f"Cannot write /data/a: {os.strerror(number)}.")


S3_CODES = [
    ("NoSuchKey", 404, ObjectNotFoundError),
    ("404", 404, ObjectNotFoundError),
    ("NoSuchBucket", 404, StorageError),
    ("NoSuchUpload", 404, StorageError),
    ("PreconditionFailed", 412, ConditionFailedError),
    ("412", 412, ConditionFailedError),
    ("ConditionalRequestConflict", 409, StoreUnavailableError),
    ("AccessDenied", 403, StoreAccessError),
    ("403", 403, StoreAccessError),
    ("InvalidAccessKeyId", 403, StoreAccessError),
    ("SignatureDoesNotMatch", 403, StoreAccessError),
    ("ExpiredToken", 400, StoreAccessError),
    ("SlowDown", 503, StoreUnavailableError),
    ("InternalError", 500, StoreUnavailableError),
    ("RequestTimeout", 400, StoreUnavailableError),
    ("Unheard", 502, StoreUnavailableError),
    ("XMinioStorageFull", 507, StoreFullError),
    ("NotImplemented", 501, StorageError),
]


@pytest.mark.parametrize(("code", "status", "ours"), S3_CODES)
def test_a_code_of_s3_is_ours_through_botocore_and_s3fs(code: str, status: int, ours: type[StorageError]) -> None:
    vendors = s3_error(code, status)

    for error in (vendors, translate_boto_error(vendors)):
        assert type(translation(error, "read s3://bucket/a")) is ours


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (botocore.exceptions.NoCredentialsError(), StoreAccessError),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://store"), StoreUnavailableError),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://store"), StoreUnavailableError),
        (botocore.exceptions.ParamValidationError(report="Key"), StorageError),
        (aiohttp.ServerDisconnectedError(), StoreUnavailableError),
        (aiohttp.ClientPayloadError("cut"), StoreUnavailableError),
        (TimeoutError(), StoreUnavailableError),
        (http.client.IncompleteRead(b""), StoreUnavailableError),
        (http.client.RemoteDisconnected("gone"), StoreUnavailableError),
        (FileNotFoundError("a"), ObjectNotFoundError),
        (PermissionError("a"), StoreAccessError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_an_error_of_a_client_is_ours(error: Exception, ours: type[StorageError]) -> None:
    assert type(translation(error, "read s3://bucket/a")) is ours


@pytest.mark.parametrize("error", [TypeError("a"), KeyError("a"), ValueError("a")])
def test_a_mistake_in_a_program_stays_what_it_is(error: Exception) -> None:
    assert translation(error, "read a") is None
    with pytest.raises(type(error)), translated("read a"):
        raise error


def test_an_earlier_failure_that_was_dealt_with_does_not_count() -> None:
    def fail() -> None:
        try:
            raise s3_error("NoSuchKey", 404)
        except botocore.exceptions.ClientError:
            raise OSError(errno.ENOSPC, "No space left on device")  # noqa: B904 - that is the point

    with pytest.raises(StoreFullError), translated("write a"):
        fail()


def test_our_own_errors_pass_with_their_message() -> None:
    with pytest.raises(ConditionFailedError, match="as it was"), translated("write a"):
        raise ConditionFailedError("as it was")


def test_a_translated_error_has_the_vendors_as_its_cause() -> None:
    vendors = s3_error("SlowDown", 503)

    with pytest.raises(StoreUnavailableError) as caught, translated("read a"):
        raise vendors

    assert caught.value.__cause__ is vendors
    assert re.search(r"^Cannot read a: .*told so\. Check that the store is up", str(caught.value))


def test_codes_and_statuses_have_a_kind() -> None:
    assert kind_of_code("SlowDown") is StoreUnavailableError
    assert kind_of_code("503") is StoreUnavailableError
    assert kind_of_code("Unheard") is None
    assert kind_of_status(412) is ConditionFailedError
    assert kind_of_status(200) is None
