"""Directories that nobody but their user can enter."""

import os
import stat
from pathlib import Path

__all__ = ["is_private"]


def is_private(path: Path) -> bool:
    """Whether a path is a directory of this user, itself and not a link to one, that no other user can enter.

    What lies elsewhere, under a name that can be guessed, may be somebody else's who got there first.
    """
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
