"""The names of objects in a directory: which are allowed, and which are of files in the making."""

import re
import secrets
from pathlib import PurePosixPath

__all__ = ["checked_name", "is_staged", "staged_name"]

_STAGED = re.compile(r"^\..+\.tmp-[^/]+$")


def checked_name(name: str, url: str) -> str:
    """The name, if it is one.

    Args:
        name: Relative, "/" between its parts.
        url: Of the directory, for the message.

    Raises:
        ValueError: It leads out of the directory, is no plain name, or is one of a file in the making.
    """
    parts = name.split("/")
    if "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"{name!r} is not a name inside {url}: expected a relative path without '..', '.' and '//'.")
    if is_staged(name):
        raise ValueError(f"{name!r} is a name of files in the making, which no listing of {url} shows: take another.")
    return name


def staged_name(name: str) -> str:
    """A new name, beside an object's, for its content while it is being written."""
    path = PurePosixPath(name)
    # A file name has 255 bytes at most, of which this one may take all.
    basename = path.name.encode()[:200].decode(errors="ignore")
    return str(path.with_name(f".{basename}.tmp-{secrets.token_hex(8)}"))


def is_staged(name: str) -> bool:
    """Whether a name is that of an object in the making."""
    return _STAGED.match(name.rpartition("/")[2]) is not None
