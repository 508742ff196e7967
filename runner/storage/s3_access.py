"""Whether a bucket can be used, and what is to be done if not: asked when a job starts, not when it first saves."""

from collections.abc import Iterator

from runner.errors import ModelDirError, StorageError, StoreUnavailableError
from runner.storage.s3_bucket import S3Bucket

__all__ = ["check_access"]

_NEW_KEYS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, on every machine with a client or a worker."
)
_RIGHTS = (
    "Allow these credentials s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload "
    "there, or use others."
)
_NO_S3 = "What answers at {endpoint} is no S3: correct AWS_ENDPOINT_URL."
_REGION = "Set AWS_DEFAULT_REGION to the region of the bucket."

_PROBE = b"probe"

# By the codes of S3, and the names of botocore's errors.
_ADVICE = {
    "NoSuchBucket": "Correct the URL, or create the bucket: aws s3 mb s3://{bucket}",
    "InvalidBucketName": "Correct the URL.",
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": _RIGHTS,
    "403": _RIGHTS,
    "NoCredentialsError": _NEW_KEYS,
    "PartialCredentialsError": _NEW_KEYS,
    "ProfileNotFound": _NEW_KEYS,
    "InvalidAccessKeyId": "The store does not know the access key. " + _NEW_KEYS,
    "SignatureDoesNotMatch": "The secret key is not that of the access key. " + _NEW_KEYS,
    "ExpiredToken": "The credentials have expired. " + _NEW_KEYS,
    "InvalidToken": "The session token is not valid. " + _NEW_KEYS,
    "RequestTimeTooSkewed": "Set the clock of this machine.",
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "SSLError": "Set AWS_CA_BUNDLE to a file with the certificates that are to be trusted.",
    "MethodNotAllowed": _NO_S3,
    "ResponseParserError": _NO_S3,
}
_ANYTHING_ELSE = "Correct it, or choose another model_dir."
_UNAVAILABLE = "Check AWS_ENDPOINT_URL, which is {endpoint}, and that the store is up and can be reached from here."


def check_access(bucket: S3Bucket, key: str, *, url: str) -> None:
    """Lists, deletes, writes and reads an object, and leaves none.

    Args:
        bucket: To be checked.
        key: Of an object that nobody else uses.
        url: Of the model_dir, for the message.

    Raises:
        ModelDirError: One of these is refused.
        StoreUnavailableError: The store does not answer.
    """
    try:
        bucket.call(f"list {url}", "list_objects_v2", Prefix=key, MaxKeys=1)
        # Before anything is written: what could not be deleted would stay.
        bucket.call(f"delete {url}/{key}", "delete_object", Key=key)
        bucket.call(f"write to {url}", "put_object", Key=key, Body=_PROBE)
        try:
            is_there = bucket.get(key)[1] == _PROBE
        finally:
            bucket.call(f"delete {bucket.url_of(key)}", "delete_object", Key=key)
    except StorageError as error:
        advice = _advice(error).format(bucket=bucket.name, endpoint=bucket.calls.endpoint_url)
        if isinstance(error, StoreUnavailableError):
            raise StoreUnavailableError(f"model_dir {url} cannot be reached: {error} {advice}") from error
        raise ModelDirError(f"model_dir {url} cannot be used: {error} {advice}") from error
    if not is_there:
        advice = _NO_S3.format(endpoint=bucket.calls.endpoint_url)
        raise ModelDirError(f"model_dir {url} cannot be used: what was written there is not what is read. {advice}")


def _advice(error: StorageError) -> str:
    otherwise = _UNAVAILABLE if isinstance(error, StoreUnavailableError) else _ANYTHING_ELSE
    return next((_ADVICE[name] for name in _names(error) if name in _ADVICE), otherwise)


def _names(error: BaseException | None) -> Iterator[str]:
    """What the store and its client call an error."""
    while error is not None:
        reply = getattr(error, "response", None)
        if isinstance(reply, dict):
            yield str(reply.get("Error", {}).get("Code"))
        yield from (each.__name__ for each in type(error).__mro__)
        error = error.__cause__
