"""What is to be done about what S3 and its clients complain of."""

from collections.abc import Callable, Iterator

__all__ = ["advice_on", "no_s3_at"]

_NEW_KEYS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, on every machine with a client or a worker."
)
_RIGHTS = (
    "Allow these credentials s3:ListBucket, s3:ListBucketMultipartUploads, s3:GetObject, s3:PutObject, "
    "s3:DeleteObject, s3:AbortMultipartUpload and s3:ListMultipartUploadParts there, or use others."
)
_NO_S3 = "What answers at {endpoint} is no S3: correct AWS_ENDPOINT_URL."
_REGION = "Set AWS_DEFAULT_REGION to the region of the bucket."

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


def advice_on(error: BaseException, *, bucket: str, endpoint: Callable[[], str]) -> str | None:
    """What to do about an error; None if it has no name that tells.

    Args:
        error: Of botocore, aiohttp or the system, or one of ours that has such a cause.
        bucket: Its name.
        endpoint: Returns the URL of the store. Only asked if it matters: whoever lacks credentials cannot tell it.
    """
    advice = next((_ADVICE[name] for name in _names(error) if name in _ADVICE), None)
    if advice is _NO_S3:
        return no_s3_at(endpoint())
    return advice and advice.format(bucket=bucket)


def no_s3_at(endpoint: str) -> str:
    """What to do about a server that does not behave like S3."""
    return _NO_S3.format(endpoint=endpoint)


def _names(error: BaseException | None) -> Iterator[str]:
    """What the store and its client call an error."""
    while error is not None:
        reply = getattr(error, "response", None)
        if isinstance(reply, dict):
            yield str(reply.get("Error", {}).get("Code"))
        yield from (each.__name__ for each in type(error).__mro__)
        error = error.__cause__
