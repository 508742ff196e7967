"""What uploads to S3 leave that never end: parts that the store keeps, and charges for, until somebody aborts them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from runner.storage.s3_bucket import S3Bucket

__all__ = ["sweep"]


def sweep(bucket: S3Bucket, *, prefix: str, staging: str, older_than: timedelta) -> int:
    """Throws away what has had no sign of life for so long, by the clock of the store; returns how many.

    Args:
        bucket: Where to look.
        prefix: Of the keys of unfinished uploads.
        staging: Prefix of the keys of objects that wait for their name.
        older_than: Since a part was added, or the object written.
    """
    before = _now(bucket, prefix) - older_than
    uploads = [found for found in _uploads(bucket, prefix) if _last_sign(bucket, found) < before]
    for found in uploads:
        bucket.call(
            f"abort an upload to {bucket.url_of(found['Key'])}",
            "abort_multipart_upload",
            Key=found["Key"],
            UploadId=found["UploadId"],
        )
    staged = [found["Key"] for found in bucket.objects(staging) if found["LastModified"] < before]
    for key in staged:
        bucket.call(f"delete {bucket.url_of(key)}", "delete_object", Key=key)
    return len(uploads) + len(staged)


def _now(bucket: S3Bucket, prefix: str) -> datetime:
    reply = bucket.call(f"look into s3://{bucket.name}", "list_objects_v2", Prefix=prefix, MaxKeys=1)
    date = reply["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date) if date else datetime.now(UTC)


def _uploads(bucket: S3Bucket, prefix: str) -> Iterator[dict[str, Any]]:
    marker: dict[str, str] = {}
    while True:
        page = bucket.call(
            f"list the uploads to s3://{bucket.name}/{prefix}", "list_multipart_uploads", Prefix=prefix, **marker
        )
        # Some stores do not look at the prefix.
        yield from (found for found in page.get("Uploads", []) if found["Key"].startswith(prefix))
        if not page.get("IsTruncated"):
            return
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _last_sign(bucket: S3Bucket, upload: dict[str, Any]) -> datetime:
    """When something was last added to an upload. A large one may take long, and is not abandoned for that."""
    begun: datetime = upload["Initiated"]
    reply = bucket.call(
        f"list the parts of {bucket.url_of(upload['Key'])}",
        "list_parts",
        Key=upload["Key"],
        UploadId=upload["UploadId"],
    )
    added: list[datetime] = [part["LastModified"] for part in reply.get("Parts", [])]
    return max([begun, *added])
