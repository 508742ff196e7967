"""What uploads to S3 leave that never end: parts that the store keeps, and charges for, until somebody aborts them."""

import logging
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from runner.errors import StorageError, StoreAccessError, StoreUnavailableError
from runner.storage.s3_bucket import S3Bucket

__all__ = ["sweep"]

_logger = logging.getLogger(__name__)


def sweep(bucket: S3Bucket, *, prefix: str, staging: str, older_than: timedelta) -> int:
    """Throws away what has had no sign of life for so long, by the clock of the store; returns how many.

    Args:
        bucket: Where to look.
        prefix: Of the keys of unfinished uploads.
        staging: Prefix of the keys of objects that wait for their name.
        older_than: Since a part was added, or the object written.
    """
    before = _now(bucket, prefix) - older_than
    uploads = [found for found in _uploads(bucket, prefix) if found["Initiated"] < before]
    aborted = sum(_abort(bucket, found, before) for found in uploads)
    staged = [found["Key"] for found in bucket.objects(staging) if found["LastModified"] < before]
    for key in staged:
        bucket.call(f"delete {bucket.url_of(key)}", "delete_object", Key=key)
    return aborted + len(staged)


def _now(bucket: S3Bucket, prefix: str) -> datetime:
    reply = bucket.call(f"look into s3://{bucket.name}", "list_objects_v2", Prefix=prefix, MaxKeys=1)
    date = reply["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date) if date else datetime.now(UTC)


def _uploads(bucket: S3Bucket, prefix: str) -> list[dict[str, Any]]:
    uploads: list[dict[str, Any]] = []
    marker: dict[str, str] = {}
    while True:
        what = f"list the uploads to s3://{bucket.name}/{prefix}"
        try:
            page = bucket.call(what, "list_multipart_uploads", Prefix=prefix, **marker)
        except StoreAccessError as error:
            # Nothing depends on it but what the store charges.
            _logger.warning("Unfinished uploads stay: %s Or have the bucket abort them by a rule of its own.", error)
            return []
        # Some stores do not look at the prefix.
        uploads += (found for found in page.get("Uploads", []) if found["Key"].startswith(prefix))
        if not page.get("IsTruncated"):
            return uploads
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _abort(bucket: S3Bucket, upload: dict[str, Any], before: datetime) -> bool:
    """Aborts an upload unless a part was added since: a large one may take long, and is not abandoned for that."""
    where = bucket.url_of(upload["Key"])
    name = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
    try:
        parts = bucket.call(f"list the parts of {where}", "list_parts", **name).get("Parts", [])
        if any(part["LastModified"] >= before for part in parts):
            return False
        bucket.call(f"abort an upload to {where}", "abort_multipart_upload", **name)
    except StoreUnavailableError:
        raise
    except StorageError as error:
        # It was completed or aborted since it was listed.
        _logger.info("An unfinished upload stays: %s", error)
        return False
    return True
