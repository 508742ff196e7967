"""One table from what operating systems and vendors call an error to ours."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runner.errors import (
    ConditionFailedError,
    ObjectNotFoundError,
    RunnerError,
    StorageError,
    StoreAccessError,
    StoreFullError,
    StoreUnavailableError,
)

__all__ = ["kind_of_code", "kind_of_status", "translated", "translation"]

_BY_ERRNO: dict[int, type[StorageError]] = {
    errno.ENOENT: ObjectNotFoundError,
    errno.ENOTDIR: ObjectNotFoundError,  # part of its path is a file
    errno.EACCES: StoreAccessError,
    errno.EPERM: StoreAccessError,
    errno.EROFS: StoreAccessError,
    errno.ENOSPC: StoreFullError,
    errno.EDQUOT: StoreFullError,
    errno.ESTALE: StoreUnavailableError,
    errno.ETIMEDOUT: StoreUnavailableError,
    errno.EHOSTUNREACH: StoreUnavailableError,
    errno.ENETUNREACH: StoreUnavailableError,
}

_BY_CODE: dict[str, type[StorageError]] = {
    "NoSuchKey": ObjectNotFoundError,
    "BlobNotFound": ObjectNotFoundError,
    # No object, but no absence either: a misspelt bucket must not look like a model_dir that is still empty.
    "NoSuchBucket": StorageError,
    "ContainerNotFound": StorageError,
    "NoSuchUpload": StorageError,
    "PreconditionFailed": ConditionFailedError,
    "ConditionNotMet": ConditionFailedError,
    "BlobAlreadyExists": ConditionFailedError,
    # Two conditional requests at the same time: S3 wants the loser to ask again.
    "ConditionalRequestConflict": StoreUnavailableError,
    "OperationAborted": StoreUnavailableError,
    "AccessDenied": StoreAccessError,
    "AccountProblem": StoreAccessError,
    "AllAccessDisabled": StoreAccessError,
    "AuthenticationFailed": StoreAccessError,
    "AuthorizationFailure": StoreAccessError,
    "ExpiredToken": StoreAccessError,
    "InvalidAccessKeyId": StoreAccessError,
    "InvalidToken": StoreAccessError,
    "RequestTimeTooSkewed": StoreAccessError,
    "SignatureDoesNotMatch": StoreAccessError,
    "TokenRefreshRequired": StoreAccessError,
    "QuotaExceeded": StoreFullError,
    "XMinioStorageFull": StoreFullError,
    "NotImplemented": StorageError,
    "BandwidthLimitExceeded": StoreUnavailableError,
    # What was sent is not what arrived.
    "BadDigest": StoreUnavailableError,
    "IncompleteBody": StoreUnavailableError,
    "XAmzContentChecksumMismatch": StoreUnavailableError,
    "XAmzContentSHA256Mismatch": StoreUnavailableError,
    "InternalError": StoreUnavailableError,
    "RequestLimitExceeded": StoreUnavailableError,
    "RequestTimeout": StoreUnavailableError,
    "RequestTimeoutException": StoreUnavailableError,
    "ServerBusy": StoreUnavailableError,
    "ServiceUnavailable": StoreUnavailableError,
    "SlowDown": StoreUnavailableError,
    "Throttling": StoreUnavailableError,
    "ThrottlingException": StoreUnavailableError,
}

_BY_STATUS: dict[int, type[StorageError]] = {
    401: StoreAccessError,
    403: StoreAccessError,
    404: ObjectNotFoundError,
    408: StoreUnavailableError,
    409: StoreUnavailableError,
    412: ConditionFailedError,
    425: StoreUnavailableError,
    429: StoreUnavailableError,
    501: StorageError,
    507: StoreFullError,
}
_SERVER_ERRORS = range(500, 600)

_BY_NAME: dict[str, type[StorageError]] = {
    # botocore
    "CredentialRetrievalError": StoreAccessError,
    "NoAuthTokenError": StoreAccessError,
    "NoCredentialsError": StoreAccessError,
    "PartialCredentialsError": StoreAccessError,
    "ProfileNotFound": StoreAccessError,
    "TokenRetrievalError": StoreAccessError,
    "EndpointConnectionError": StoreUnavailableError,
    "HTTPClientError": StoreUnavailableError,
    "SSLError": StoreUnavailableError,
    "IncompleteReadError": StoreUnavailableError,
    "ResponseParserError": StoreUnavailableError,
    "BotoCoreError": StorageError,
    # aiohttp
    "ClientConnectionError": StoreUnavailableError,
    "ClientPayloadError": StoreUnavailableError,
    # http.client
    "HTTPException": StoreUnavailableError,
    # botocore and aiohttp, gcsfs, adlfs
    "ClientError": StorageError,
    "HttpError": StorageError,
    "AzureError": StorageError,
}

_ADVICE: dict[type[StorageError], str] = {
    StoreAccessError: "Give this user, or these credentials, access to it.",
    StoreFullError: "Free some space, raise the quota, or choose another model_dir.",
    StoreUnavailableError: "Check that the store is up and can be reached from here.",
}


@contextmanager
def translated(action: str, *, advise: Callable[[Exception], str | None] | None = None) -> Iterator[None]:
    """Raises our error for each that the operating system or a store's client raises.

    Args:
        action: What was to be done and with what, for the message: "write /data/iris/checkpoint".
        advise: What is to be done about an error, if the store knows better than what is said of all stores.
    """
    try:
        yield
    except RunnerError:
        raise
    except Exception as error:
        # What the table does not know is no failure of a store but a mistake in a program, and stays what it is.
        if (ours := translation(error, action, advise=advise)) is None:
            raise
        raise ours from error


def translation(
    error: Exception, action: str, *, advise: Callable[[Exception], str | None] | None = None
) -> StorageError | None:
    """Our error for one of the operating system's or of a store's client; None if it is none of theirs.

    Args:
        error: What was raised.
        action: What was to be done and with what: "write /data/iris/checkpoint".
        advise: What is to be done about an error, if the store knows better than what is said of all stores.
    """
    # A client's error has the vendor's as its cause, which tells more: s3fs makes a missing bucket a missing file.
    kind = next((kind for each in _chain(error) if (kind := _kind_of_reply(each))), None) or _kind(error)
    if kind is None:
        return None
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    message = f"Cannot {action}: {reason.rstrip('.')}."
    if advice := (advise(error) if advise else None) or _ADVICE.get(kind):
        message = f"{message} {advice}"
    return kind(message)


def kind_of_code(code: str) -> type[StorageError] | None:
    """Our error for a vendor's code, such as S3's "SlowDown", or a status as text; None for one that is not known."""
    return kind_of_status(int(code)) if code.isdecimal() else _BY_CODE.get(code)


def kind_of_status(status: int) -> type[StorageError] | None:
    """Our error for the status of an HTTP response; None for one that tells nothing."""
    return _BY_STATUS.get(status) or (StoreUnavailableError if status in _SERVER_ERRORS else None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    # Never the context, which may be an earlier failure that has been dealt with.
    while error is not None:
        yield error
        error = error.__cause__


def _kind_of_reply(error: BaseException) -> type[StorageError] | None:
    """The error that the store itself named in its response, if this is a response."""
    reply = getattr(error, "response", None)
    if isinstance(reply, dict):  # botocore
        status = reply.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return kind_of_code(str(reply.get("Error", {}).get("Code", ""))) or kind_of_status(status)
    code = getattr(error, "error_code", None)  # azure.core
    if isinstance(code, str) and (kind := _BY_CODE.get(code)):
        return kind
    statuses = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    return next((kind for each in statuses if isinstance(each, int) and (kind := kind_of_status(each))), None)


def _kind(error: Exception) -> type[StorageError] | None:
    if isinstance(error, OSError) and (kind := _BY_ERRNO.get(error.errno or 0)):
        return kind
    if isinstance(error, FileNotFoundError):
        return ObjectNotFoundError
    if isinstance(error, PermissionError):
        return StoreAccessError
    if isinstance(error, ConnectionError | TimeoutError):
        return StoreUnavailableError
    names = (_BY_NAME.get(each.__name__) for each in type(error).__mro__)
    return next((kind for kind in names if kind), StorageError if isinstance(error, OSError) else None)
