"""Whether a bucket can be used, and what is to be done if not: asked when a job starts, not when it first saves."""

from runner.errors import ModelDirError, StorageError, StoreUnavailableError
from runner.storage.s3_advice import no_s3_at
from runner.storage.s3_bucket import S3Bucket

__all__ = ["check_access"]

_PROBE = b"probe"

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
        if isinstance(error, StoreUnavailableError):
            advised = _advised(bucket, error, _UNAVAILABLE.format(endpoint=bucket.calls.endpoint_url))
            raise StoreUnavailableError(f"model_dir {url} cannot be reached: {advised}") from error
        raise ModelDirError(f"model_dir {url} cannot be used: {_advised(bucket, error, _ANYTHING_ELSE)}") from error
    if not is_there:
        advice = no_s3_at(bucket.calls.endpoint_url)
        raise ModelDirError(f"model_dir {url} cannot be used: what was written there is not what is read. {advice}")


def _advised(bucket: S3Bucket, error: StorageError, otherwise: str) -> str:
    """What is wrong and what to do, which most errors of S3 say themselves."""
    return str(error) if bucket.advice_on(error) else f"{error} {otherwise}"
