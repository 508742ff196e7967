"""Slots: how many each queue has, and how many are free for the next gang."""

from collections import Counter
from collections.abc import Collection, Mapping

from runner.cluster import Place
from runner.jobs.spec import DEFAULT_QUEUE
from runner.jobs.state import JobRecord, Task, WorkerInfo

__all__ = ["FreeSlots", "held_slots"]


def held_slots(job: JobRecord, tasks: Mapping[Place, Task]) -> int:
    """How many slots the newest generation of a job occupies, or will once its messages arrive."""
    if job.is_waiting:
        return 0
    # Claims of a closing generation are refused, so only the places that are held by somebody count.
    return sum(task.is_open if job.closing else task.outcome is None for task in tasks.values())


class FreeSlots:
    """Counts free slots by queue, and gives them to whole gangs only.

    Jobs ask in order of admission. One that does not fit keeps all after it on its queue waiting: otherwise a stream of
    small jobs would hold up a large one forever. One that is larger than its queue waits for more workers, and lets the
    others pass.

    Args:
        workers: The live workers.
        doubtful: Those that are announced, and were not seen for long enough to tell.
    """

    def __init__(self, workers: Collection[WorkerInfo], *, doubtful: Collection[WorkerInfo] = ()) -> None:
        self._free: Counter[str] = Counter()
        self._all: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        for worker in workers:
            self._free[worker.queue] += worker.slots
        for worker in (*workers, *doubtful):
            self._all[worker.queue] += worker.slots

    def hold(self, queue: str, slots: int) -> None:
        """Takes slots out of the count for a generation that has begun."""
        self._free[queue] -= slots

    def take(self, job: JobRecord) -> str:
        """Takes the slots of a whole gang, or none.

        Returns:
            "" if the job is admitted; otherwise what it waits for, for a person.
        """
        queue, needed = job.spec.queue, len(job.spec.roster)
        ahead = self._first.get(queue)
        if ahead is None and self._free[queue] >= needed:
            self._free[queue] -= needed
            return ""
        slots = f"needs {needed} slot{'s' if needed > 1 else ''} on queue {queue!r}"
        if queue not in self._all:
            option = "" if queue == DEFAULT_QUEUE else f" --queue {queue}"
            return f"{slots}, and no worker serves it; start one with `runner worker --slots {needed}{option}`"
        if needed > self._all[queue]:
            return f"{slots}, which has {self._all[queue]}; start more workers"
        self._first.setdefault(queue, job.id)
        turn = f", after job {ahead}" if ahead else ""
        return f"{slots}, {max(self._free[queue], 0)} free{turn}"
