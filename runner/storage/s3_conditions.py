"""What an S3 store makes of the conditions of a write. Some ignore them, and some keep them only most of the time."""

import logging
from enum import Enum
from urllib.parse import quote

from botocore.exceptions import ClientError

from runner.storage.directory import Condition, IfAbsent, IfUnchanged
from runner.storage.s3_calls import S3Calls

__all__ = ["Honoured", "as_parameters", "as_rename_parameters", "probe"]

_logger = logging.getLogger(__name__)

_PRECONDITION_FAILED = 412
# A store that does not know conditional writes ignores them, or says "InvalidArgument" or "NotImplemented".
_UNKNOWN = {400, 501}
_NO_TAG = "0" * 32
_TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504}
_CONTENT = b"probe"
_AWS = "AmazonS3"
_SEAWEEDFS = "SeaweedFS"


class Honoured(Enum):
    """Which writes a store makes dependent on a condition, so that of several at the same moment one succeeds.

    SeaweedFS 4.48 does so for PutObject (60 of 60 races of six writers had one winner) and for RenameObject (80 of
    80), but not for CompleteMultipartUpload, which compares first and then writes: 36 of 60 races had several winners,
    each told that it was the only one, and the last of them overwrote the others. So a large object is completed there
    under a name of its own, and then renamed under the condition, which moves no bytes. A rename against a PutObject of
    the same name had two winners in 4 of 80 races: let all writers of a name write it in the same way, as they do if it
    is about as large for all. AWS documents that it keeps conditions in PutObject and CompleteMultipartUpload; it has
    RenameObject for directory buckets only.
    """

    NOTHING = "nothing"
    PUT_AND_COMPLETE = "put and complete"
    PUT_AND_RENAME = "put and rename"


def as_parameters(only: Condition | None) -> dict[str, str]:
    """A condition in the words of PutObject, GetObject and CompleteMultipartUpload."""
    match only:
        case IfAbsent():
            return {"IfNoneMatch": "*"}
        case IfUnchanged(tag):
            return {"IfMatch": f'"{tag}"'}
    return {}


def as_rename_parameters(only: Condition | None) -> dict[str, str]:
    """A condition in the words of RenameObject."""
    return {f"Destination{name}": value for name, value in as_parameters(only).items()}


def probe(calls: S3Calls, key: str) -> Honoured:
    """Finds out by a few small writes of an object that is new and deleted in the end.

    Args:
        calls: To the store.
        key: That nobody else uses.

    Raises:
        Exception: The object could not be written or deleted; of botocore, aiohttp or the system, as it comes.
    """
    reply = calls.call("put_object", Key=key, Body=_CONTENT)
    server = reply["ResponseMetadata"]["HTTPHeaders"].get("server", "")
    try:
        if not (_refuses(calls, key, IfAbsent()) and _refuses(calls, key, IfUnchanged(_NO_TAG))):
            return Honoured.NOTHING
        if _renames(calls, key, server):
            return Honoured.PUT_AND_RENAME
    finally:
        calls.call("delete_object", Key=key)
    if server.startswith(_SEAWEEDFS):
        _logger.warning(
            "%s keeps the conditions of large uploads only if no two end within the same milliseconds. Take 4.48 or "
            "later.",
            server,
        )
    return Honoured.PUT_AND_COMPLETE


def _refuses(calls: S3Calls, key: str, only: Condition) -> bool:
    """Whether a write is refused whose condition does not hold."""
    try:
        calls.call("put_object", Key=key, Body=b"again", **as_parameters(only))
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in _UNKNOWN:
            return False
        if status != _PRECONDITION_FAILED:
            raise
        return True
    return False


def _renames(calls: S3Calls, key: str, server: str) -> bool:
    """Whether the store can rename an object, which is found out with that of this key."""
    if server.startswith(_AWS):
        return False
    target = f"{key}-renamed"
    try:
        calls.call("rename_object", Key=target, RenameSource=quote(key), **as_rename_parameters(IfAbsent()))
        # A store that does not know the request may take it for one to write an empty object.
        return calls.get(target)[1] == _CONTENT
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in _TRANSIENT:
            raise
        return False
    finally:
        calls.call("delete_object", Key=target)
