"""Where the checkpoints of an input are: in a local model_dir, or in a scratch directory and then in a remote one.

They are those of one task, and have one name: `<name>.ckpt-<step>.*`, which `checkpoint_<name>` lists.
"""

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import tensorflow as tf

from runner.errors import ConditionFailedError, ModelDirInUseError, ObjectNotFoundError
from runner.estimator.remote import is_remote
from runner.storage.directory import Directory, IfAbsent, IfUnchanged
from runner.storage.transfer import download_file, upload_file
from runner.storage.urls import open_directory, resolve_model_dir

__all__ = ["InputFiles", "input_files"]


class InputFiles:
    """Those of a local model_dir, which a Saver reads and writes itself.

    Args:
        folder: Where the Saver reads and writes.
        name: What the names begin with.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.folder = folder
        self.state_name = f"checkpoint_{name}"
        self._name = name

    @property
    def basename(self) -> str:
        """The path of every checkpoint without `-<step>`, for the Saver."""
        return os.path.join(self.folder, f"{self._name}.ckpt")

    def state(self) -> Any:
        """What checkpoints there are, a CheckpointState with paths for the Saver; None if there are none."""
        return tf.train.get_checkpoint_state(self.folder, self.state_name)

    def written_at(self, prefix: str) -> float | None:
        """When a checkpoint was written, in seconds since 1970; None if it is gone."""
        index = Path(f"{prefix}.index")
        return index.stat().st_mtime if index.exists() else None

    def fetch(self, prefix: str) -> None:
        """Makes the files of a checkpoint ready to be read by the Saver."""

    def publish(self) -> None:
        """Makes what the Saver has written what a training begins with.

        Raises:
            ModelDirInUseError: Another process has written one since `state` was called.
            StorageError: The store did not take it.
        """


class RemoteInputFiles(InputFiles):
    """Those of a remote model_dir.

    Args:
        directory: The model_dir.
        name: What the names begin with.
    """

    def __init__(self, directory: Directory, name: str) -> None:
        super().__init__(tempfile.mkdtemp(prefix="input-"), name)
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._directory = directory
        self._tag: str | None = None
        self._kept: set[str] = set()
        self._fetched: list[Path] = []

    def state(self) -> Any:
        """What checkpoints there are, as paths for the Saver; None if there are none."""
        try:
            data, self._tag = self._directory.read(self.state_name)
        except ObjectNotFoundError:
            self._tag = None
            return None
        Path(self.folder, self.state_name).write_bytes(data)
        self._kept = self._named()
        return super().state()

    def written_at(self, prefix: str) -> float | None:
        """When a checkpoint was written, by the clock of the store."""
        entry = self._directory.stat(f"{os.path.basename(prefix)}.index")
        return entry.modified_at.timestamp() if entry else None

    def fetch(self, prefix: str) -> None:
        """Downloads a checkpoint."""
        for name in self._objects(os.path.basename(prefix)):
            self._fetched.append(Path(self.folder, name))
            download_file(self._directory, name, self._fetched[-1])

    def publish(self) -> None:
        """Uploads it, and what could not be uploaded before, and deletes what the Saver has dropped."""
        self._check_tag()
        while self._fetched:
            self._fetched.pop().unlink(missing_ok=True)
        # The index is what makes it a checkpoint.
        paths = sorted(Path(self.folder).glob(f"{self._name}.ckpt-*"), key=lambda path: path.suffix == ".index")
        for path in paths:
            upload_file(self._directory, path.name, path)
        self._write_state(Path(self.folder, self.state_name).read_bytes())
        for path in paths:
            path.unlink()
        dropped, self._kept = self._kept - self._named(), self._named()
        for basename in dropped:
            for name in reversed(self._objects(basename)):  # the index first
                self._directory.delete(name)

    def _check_tag(self) -> None:
        """Raises before anything of another process is replaced."""
        entry = self._directory.stat(self.state_name)
        if (entry.tag if entry else None) != self._tag:
            self._raise_taken(None)

    def _write_state(self, data: bytes) -> None:
        only = IfAbsent() if self._tag is None else IfUnchanged(self._tag)
        try:
            self._tag = self._directory.write_bytes(self.state_name, data, only=only)
        except ConditionFailedError as error:
            stored, tag = self._directory.read(self.state_name)
            if stored != data:
                self._raise_taken(error)
            self._tag = tag  # the reply to our own first attempt was lost

    def _raise_taken(self, error: Exception | None) -> None:
        raise ModelDirInUseError(
            f"Another process has written {self.state_name} in {self._directory.url} since this training began, and "
            "this one stops. Let one training at a time use a model_dir."
        ) from error

    def _objects(self, basename: str) -> list[str]:
        """The objects of a checkpoint, its data first."""
        names = [entry.name for entry in self._directory.list() if entry.name.startswith(f"{basename}.")]
        return sorted(names, key=lambda name: name.endswith(".index"))

    def _named(self) -> set[str]:
        state = super().state()
        return {os.path.basename(path) for path in state.all_model_checkpoint_paths} if state else set()


def input_files(model_dir: str, name: str) -> InputFiles:
    """Those of a model_dir, a path or a URL."""
    if is_remote(model_dir):
        return RemoteInputFiles(open_directory(resolve_model_dir(model_dir)), name)
    return InputFiles(model_dir, name)
