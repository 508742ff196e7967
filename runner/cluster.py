"""Task types, places in a cluster, and the TF_CONFIG that tells a task about both. Needs no TensorFlow."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

__all__ = ["ClusterSpec", "Place", "TaskType", "roster", "tf_config"]

ClusterSpec = dict[str, list[str]]
"""Task type -> addresses "host:port", in the order of the task index: the "cluster" of TF_CONFIG."""


class TaskType(StrEnum):
    """What a task does in its job; the names are those of TF_CONFIG."""

    CHIEF = "chief"
    WORKER = "worker"


@dataclass(frozen=True, order=True)
class Place:
    """One seat of a job's cluster: a task type and the index within it, written "worker:0"."""

    task_type: TaskType
    index: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads "worker:0".

        Raises:
            ValueError: `text` is not "<task type>:<index>".
        """
        task_type, _, index = text.partition(":")
        return cls(TaskType(task_type), int(index))

    def __str__(self) -> str:
        return f"{self.task_type}:{self.index}"


def roster(workers: int) -> tuple[Place, ...]:
    """All places of a job with that many workers: the chief first, then worker:0 upwards."""
    return (Place(TaskType.CHIEF, 0), *(Place(TaskType.WORKER, index) for index in range(workers)))


def tf_config(cluster: ClusterSpec, place: Place, **extra: Any) -> dict[str, Any]:
    """The value of TF_CONFIG for one task, as TensorFlow's launchers write it.

    Args:
        cluster: Addresses of all tasks; empty for a job of a chief alone, which needs no server.
        place: The task that will read it.
        extra: Further top-level keys that RunConfig understands ("model_dir", "service").
    """
    if not cluster:
        return dict(extra)
    return {"cluster": cluster, "task": {"type": str(place.task_type), "index": place.index}, **extra}
