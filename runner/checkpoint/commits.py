"""Commits: what each checkpoint consists of, and which generation of which job, with which code, wrote it."""

import logging
from collections.abc import Mapping

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from runner.errors import ObjectNotFoundError
from runner.storage.directory import Directory

__all__ = ["COMMITS", "Commit", "commit_name", "newest_generation", "read_commit"]

COMMITS = ".runner/commits"

_logger = logging.getLogger(__name__)


class Commit(BaseModel):
    """What is recorded of a checkpoint before its index, which makes it exist.

    Attributes:
        step: Its global_step; None if its basename has none.
        generation: Of the writer.
        owner: Of the writer: the id of a job, or what names a process without one.
        code: sha256 of the code snapshot of the job; None without one.
        time: By the clock of the writer; UTC.
        objects: Name in the model_dir -> size in bytes, of all that the checkpoint consists of.
        nonce: Makes no two commits the same.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")  # a later version may tell more

    step: int | None
    generation: int
    owner: str
    code: str | None
    time: AwareDatetime
    objects: Mapping[str, int]
    nonce: str

    def encode(self) -> bytes:
        """The content of its object."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def commit_name(basename: str) -> str:
    """The object with the commit of a checkpoint `model.ckpt-<step>`."""
    return f"{COMMITS}/{basename}.json"


def read_commit(directory: Directory, basename: str) -> Commit | None:
    """The commit of a checkpoint; None if there is none, as for those that TensorFlow itself wrote."""
    try:
        data = directory.read_bytes(commit_name(basename))
    except ObjectNotFoundError:
        return None
    try:
        return Commit.model_validate_json(data)
    except ValidationError as error:
        # All that depends on it can be had, or left undone, without it.
        _logger.warning("%s/%s is no record of a checkpoint: %s", directory.url, commit_name(basename), error)
        return None


def newest_generation(directory: Directory) -> int:
    """The highest generation that left a commit; 0 without any. Reads them all."""
    basenames = [entry.name.removeprefix(f"{COMMITS}/").removesuffix(".json") for entry in directory.list(COMMITS)]
    commits = [read_commit(directory, basename) for basename in basenames]
    return max((commit.generation for commit in commits if commit), default=0)
