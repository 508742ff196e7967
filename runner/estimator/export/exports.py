"""The exports below a base, wherever that is."""

import os

from runner.estimator.export.local_exports import LocalExports
from runner.estimator.export.remote_exports import RemoteExports
from runner.estimator.remote import is_remote
from runner.storage.urls import open_directory, resolve_model_dir

__all__ = ["exports_in"]


def exports_in(base: str | bytes | os.PathLike[str]) -> LocalExports | RemoteExports:
    """The exports below a path or a URL.

    Raises:
        ModelDirError: It is a URL that nothing installed here can open.
    """
    path = os.fsdecode(base)
    if is_remote(path):
        return RemoteExports(open_directory(resolve_model_dir(path)))
    return LocalExports(os.fsencode(base))
