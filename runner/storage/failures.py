"""One table from what operating systems and vendors call an error to ours."""

import errno
from collections.abc import Iterator
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

__all__ = ["translated", "translation"]

_BY_ERRNO: dict[int, type[StorageError]] = {
    errno.ENOENT: ObjectNotFoundError,
    errno.EACCES: StoreAccessError,
    errno.EPERM: StoreAccessError,
    errno.EROFS: StoreAccessError,
    errno.ENOSPC: StoreFullError,
    errno.EDQUOT: StoreFullError,
    errno.ETIMEDOUT: StoreUnavailableError,
    errno.ESTALE: StoreUnavailableError,
}

_ADVICE: dict[type[StorageError], str] = {
    StoreAccessError: "Give this user, or these credentials, access to it.",
    StoreFullError: "Free some space, raise the quota, or choose another model_dir.",
    StoreUnavailableError: "Check that the store is up and can be reached from here.",
}


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Raises our error for each that the operating system or a store's client raises.

    Args:
        action: What was to be done and with what, for the message: "write /data/iris/checkpoint".
    """
    try:
        yield
    except RunnerError:
        raise
    except OSError as error:
        raise translation(error, action) from error


def translation(error: OSError, action: str) -> StorageError:
    """Our error for one of the operating system's.

    Args:
        error: What was raised.
        action: What was to be done and with what: "write /data/iris/checkpoint".
    """
    kind = _BY_ERRNO.get(error.errno or 0) or _by_type(error)
    message = f"Cannot {action}: {error.strerror or error}."
    if advice := _ADVICE.get(kind):
        message = f"{message} {advice}"
    return kind(message)


def _by_type(error: OSError) -> type[StorageError]:
    if isinstance(error, FileNotFoundError):
        return ObjectNotFoundError
    if isinstance(error, FileExistsError):
        return ConditionFailedError
    if isinstance(error, PermissionError):
        return StoreAccessError
    if isinstance(error, ConnectionError | TimeoutError):
        return StoreUnavailableError
    return StorageError
