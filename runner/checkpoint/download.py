"""Checkpoints of any model_dir, copied to a local directory."""

import os
import shutil
import tempfile
from pathlib import Path

from runner.checkpoint.bundle.reader import BundleReader
from runner.checkpoint.inventory import find_files
from runner.checkpoint.state import STATE_FILE, CheckpointState
from runner.errors import (
    CheckpointDamagedError,
    CheckpointNotFoundError,
    ConditionFailedError,
    ModelDirError,
    ObjectNotFoundError,
)
from runner.storage.directory import Directory
from runner.storage.failures import translated
from runner.storage.local_directory import LocalDirectory
from runner.storage.transfer import download_file

__all__ = ["download_checkpoint"]

_FOLDER_MODE = 0o755


def download_checkpoint(directory: Directory, basename: str, folder: Path) -> str:
    """Copies a checkpoint to a local directory, where every tool of TensorFlow finds it as the latest.

    The directory appears with all of it, after every byte of its tensors has been checked, or not at all.

    Args:
        directory: The model_dir.
        basename: `model.ckpt-<step>`.
        folder: Where to: one that does not exist, or is empty.

    Returns:
        The prefix of the copy.

    Raises:
        ModelDirError: The folder is not empty.
        CheckpointNotFoundError: There is no such checkpoint, or it was deleted meanwhile.
        CheckpointDamagedError: It is damaged.
        StorageError: The store does not give it, or the disk does not take it.
    """
    folder = Path(os.path.abspath(folder))
    with translated(f"download a checkpoint to {folder}"):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ModelDirError(f"{folder} is there already: give a directory that does not exist, or is empty.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.tmp-"))
        try:
            _fill(staged, directory, basename)
            staged.chmod(_FOLDER_MODE)  # mkdtemp makes private ones
            staged.rename(folder)
        except BaseException:
            shutil.rmtree(staged)
            raise
    return str(folder / basename)


def _fill(staged: Path, directory: Directory, basename: str) -> None:
    names = [entry.name for entry in find_files(directory, basename).entries]
    if f"{basename}.index" not in names:
        raise CheckpointNotFoundError(f"There is no checkpoint {directory.url}/{basename}: it has no index.")
    try:
        for name in names:
            download_file(directory, name, staged / name)
    except (ObjectNotFoundError, ConditionFailedError) as error:
        raise CheckpointNotFoundError(
            f"{directory.url}/{basename} was deleted or replaced while it was downloaded. Download the newest one."
        ) from error
    copy = LocalDirectory(str(staged), durable=False)
    try:
        BundleReader(copy, basename).verify()
    except CheckpointDamagedError as error:
        # The copy goes away, and is what the store has.
        raise CheckpointDamagedError(str(error).replace(copy.url, directory.url)) from error
    copy.write_bytes(STATE_FILE, CheckpointState(basename, (basename,)).encode())
