"""Fences: which generation each model_dir has reached, read without holding up the coordinator."""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from runner.checkpoint.fence import reached_generation
from runner.errors import RunnerError
from runner.storage.retry import Retry
from runner.storage.urls import open_directory

__all__ = ["Fences", "read_fence"]

_MAX_READS = 64
_FRESH_SECS = 5.0
_TIMEOUT_SECS = 5.0
_RETRY_SECS = 10.0
_BACKOFF_SECS = 5.0
_MAX_BACKOFF_SECS = 60.0
_PATIENCE_SECS = 0.1


def read_fence(model_dir: str) -> int:
    """The highest generation that has claimed a model_dir; 0 if none has.

    Raises:
        StorageError: The store did not answer, or not with the `checkpoint` file.
    """
    # The job says what is wrong, and asks again later.
    return reached_generation(open_directory(model_dir, retry=Retry(budget_secs=_RETRY_SECS)))


@dataclass
class _Read:
    """One read of one fence; the thread that reads sets the last four."""

    model_dir: str
    asked_at: float
    done: threading.Event = field(default_factory=threading.Event)
    generation: int | None = None
    problem: str = ""
    answered_at: float = 0.0
    is_started: bool = False


@dataclass
class _Trouble:
    """What is in the way of a job whose fence could not be read."""

    problem: str
    times: int
    retry_at: float


class Fences:
    """Reads fences in threads of their own: a store may be slow, or hang, and other jobs have leases to be watched.

    For one thread, the coordinator's.

    Args:
        read: Returns the generation in the fence of a model_dir, 0 if it has none. Called in other threads.
        clock: Monotonic time in seconds.
        patience_secs: How long one pass of the coordinator may wait for what it asks for, all jobs together: a local
            disk answers at once, and its jobs need not wait for the next pass.
        timeout_secs: A job whose read takes longer says so, and leaves its slots to others. It may still answer.
    """

    def __init__(
        self,
        read: Callable[[str], int],
        *,
        clock: Callable[[], float],
        patience_secs: float = _PATIENCE_SECS,
        timeout_secs: float = _TIMEOUT_SECS,
    ) -> None:
        self._read = read
        self._clock = clock
        self._patience_secs = patience_secs
        self._timeout_secs = timeout_secs
        self._left_secs = patience_secs
        self._reads: dict[str, _Read] = {}
        self._troubles: dict[str, _Trouble] = {}
        self._slots = threading.BoundedSemaphore(_MAX_READS)

    def begin(self) -> None:
        """Begins a pass."""
        self._left_secs = self._patience_secs

    def problem(self, job_id: str, model_dir: str) -> str:
        """Why the fence of a job could not be read, for a person; "" if nothing is known against it.

        A job with a problem is asked for again by this, after a back-off.
        """
        self._collect(job_id)
        trouble = self._troubles.get(job_id)
        if trouble is None:
            return ""
        if job_id not in self._reads and self._clock() >= trouble.retry_at:
            self._ask(job_id, model_dir)
        return trouble.problem

    def generation(self, job_id: str, model_dir: str) -> int | None:
        """The generation in the fence of a job's model_dir, as it was a few seconds ago at most; 0 without a fence.

        Returns:
            None as long as there is no answer: to be asked again in the next pass.
        """
        read = self._reads.get(job_id)
        if read is None or self._is_stale(read):
            read = self._ask(job_id, model_dir)
            self._wait(read)
        self._collect(job_id)
        if read.generation is None:
            return None
        # The next generation has to ask anew: others may have raised the fence meanwhile.
        self._reads.pop(job_id, None)
        return read.generation

    def prune(self, active: Collection[str]) -> None:
        """Forgets the jobs that have ended; a read of theirs that hangs is left to itself."""
        for memory in (self._reads, self._troubles):
            for job_id in memory.keys() - set(active):
                del memory[job_id]

    def _is_stale(self, read: _Read) -> bool:
        return read.done.is_set() and self._clock() - read.answered_at > _FRESH_SECS

    def _ask(self, job_id: str, model_dir: str) -> _Read:
        read = self._reads[job_id] = _Read(model_dir, self._clock())
        self._start(read)
        return read

    def _start(self, read: _Read) -> None:
        # A thread each, and no pool of a few: reads that hang must not keep those of another store waiting. Daemons,
        # since the end of the coordinator does not wait for them either.
        if self._slots.acquire(blocking=False):
            read.is_started = True
            threading.Thread(target=self._run, args=(read,), name="fence", daemon=True).start()

    def _run(self, read: _Read) -> None:
        try:
            read.generation = self._read(read.model_dir)
        except (RunnerError, OSError) as error:
            read.problem = str(error)
        except Exception as error:  # noqa: BLE001 - a thread's boundary; the job says what it was
            read.problem = f"{type(error).__name__}: {error}"
        finally:
            read.answered_at = self._clock()
            self._slots.release()
            read.done.set()

    def _wait(self, read: _Read) -> None:
        began_at = time.monotonic()
        read.done.wait(max(0.0, self._left_secs))
        self._left_secs -= time.monotonic() - began_at

    def _collect(self, job_id: str) -> None:
        """Makes a trouble of a read that failed or takes too long, and ends that of one that answered."""
        read = self._reads.get(job_id)
        if read is None:
            return
        if not read.is_started:
            self._start(read)
        if read.done.is_set():
            if read.generation is None:
                del self._reads[job_id]
                self._trouble(job_id, f"the fence in {read.model_dir} cannot be read: {read.problem}")
            else:
                self._troubles.pop(job_id, None)
        elif job_id not in self._troubles and self._clock() - read.asked_at >= self._timeout_secs:
            problem = f"{read.model_dir} has not answered for {self._timeout_secs:g} s; waiting for it"
            self._troubles[job_id] = _Trouble(problem, 0, self._clock())

    def _trouble(self, job_id: str, problem: str) -> None:
        before = self._troubles.get(job_id)
        times = before.times + 1 if before else 0
        wait_secs = min(_MAX_BACKOFF_SECS, _BACKOFF_SECS * 2 ** min(times, 10))
        self._troubles[job_id] = _Trouble(problem, times, self._clock() + wait_secs)
