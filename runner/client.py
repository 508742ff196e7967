"""Client and Job: submit training jobs, watch them, cancel them."""

import os
import re
import time
from builtins import list as list_  # Client.list hides it in annotations
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from runner.checkpoint.listing import CheckpointInfo, survey_checkpoints
from runner.errors import CodeSnapshotError, JobSpecError, ModelDirError, WaitTimeoutError
from runner.jobs.entry import check_entry, entry_name, source_root
from runner.jobs.records import write_spec
from runner.jobs.snapshot import Contents, Snapshot, pack, snapshot_name
from runner.jobs.spec import DEFAULT_QUEUE, JobSpec
from runner.jobs.state import LogLine
from runner.jobs.status import JobStatus
from runner.jobs.store import JobStore, in_use
from runner.settings import Settings
from runner.storage.retry import Retry
from runner.storage.urls import is_local, open_directory, resolve_model_dir

__all__ = ["Client", "Job", "JobStatus"]

_MIN_POLL_SECS, _MAX_POLL_SECS = 0.1, 1.0
_MAX_NAME = 52
_RETRY_SECS = 10.0
_HINTS = {
    "workers": "Give the number of workers beside the chief: 0 or more.",
    "params": "Give a dict of what JSON can say: strings, finite numbers, booleans, None, lists, and dicts of those.",
    "name": "Use up to 52 lower-case letters, digits and '-' between them.",
    "queue": "Use letters, digits, '.', '_' and '-'.",
    "priority": "Give an integer; a higher one is admitted first.",
    "env": "Give a dict of strings, none of them a secret.",
    "max_failures": "Give the number of failures to recover from: 0 or more.",
}


class Job:
    """One submitted job. Any number of handles of one job may be used; thread-safe.

    Attributes:
        id: Finds it again, with `Client.get`.
        code: What was packed for it by the `submit` that returned this handle; None if nothing was.
    """

    def __init__(self, store: JobStore, job_id: str, *, code: Contents | None = None) -> None:
        self._store = store
        self.id = job_id
        self.code = code

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> JobStatus:
        """The job at this moment."""
        job = self._store.job(self.id)
        tasks, events = self._store.tasks(job), self._store.events(self.id)
        return JobStatus.of(job, tasks, events, has_coordinator=self._store.has_leader())

    def wait(self, timeout_secs: float | None = None) -> JobStatus:
        """Returns once the job has ended, whatever its end: `wait().raise_for_status()` wants success.

        Raises:
            WaitTimeoutError: It has not within `timeout_secs`; the job goes on.
        """
        deadline = None if timeout_secs is None else time.monotonic() + timeout_secs
        pause_secs = _MIN_POLL_SECS
        while not (job := self._store.job(self.id)).state.is_terminal:
            left_secs = _MAX_POLL_SECS if deadline is None else deadline - time.monotonic()
            if left_secs <= 0:
                raise WaitTimeoutError(
                    f"Job {self.id} is {job.state} ({job.message}) after {timeout_secs:g} s, and goes on. "
                    "Wait longer, or cancel it."
                )
            time.sleep(min(pause_secs, left_secs))
            pause_secs = min(2 * pause_secs, _MAX_POLL_SECS)
        return self.status()

    def logs(self, *, follow: bool = False, after: str = "0") -> Iterator[LogLine]:
        """The lines that the training processes wrote, in the order in which they arrived.

        Args:
            follow: Wait for further lines, and end when the job has ended and its last line was given.
            after: Id of the last line that is known already; "0" means from the beginning.
        """
        self._store.job(self.id)
        return self._lines(follow=follow, after=after)

    def _lines(self, *, follow: bool, after: str) -> Iterator[LogLine]:
        while True:
            # Asked before the lines are read: what a job wrote before it ended must not be missed.
            has_ended = not follow or self._store.job(self.id).state.is_terminal
            lines = self._store.logs(self.id, after=after, wait_secs=0 if has_ended else _MAX_POLL_SECS)
            yield from lines
            if lines:
                after = lines[-1].id
            elif has_ended:
                return

    def cancel(self) -> None:
        """Asks the coordinator to end the job; idempotent, returns at once, and has no effect once it ended."""
        self._store.request_cancel(self.id)

    def checkpoints(self) -> list_[CheckpointInfo]:
        """The checkpoints in the job's model_dir, by step, in whatever state; see CheckpointInfo."""
        return survey_checkpoints(self._store.job(self.id).spec.model_dir)


class Client:
    """Submits jobs and finds them again. Thread-safe; also a context manager.

    Args:
        settings: Where Redis is; None means what RUNNER_* in the environment say.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._store = JobStore(Settings.from_environ() if settings is None else settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections to Redis."""
        self._store.close()

    def submit(
        self,
        entry: str | Callable[..., Any],
        *,
        params: Mapping[str, Any] | None = None,
        model_dir: str | os.PathLike[str],
        workers: int = 0,
        name: str | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        env: Mapping[str, str] | None = None,
        max_failures: int = 3,
        code_dir: str | os.PathLike[str] | None = None,
    ) -> Job:
        """Submits a job; it starts once the coordinator finds enough free slots.

        Everything is checked before anything is written: after an error there is no job, and nothing to clean up.

        Args:
            entry: "module:function", or a function at the top level of a module, that makes the Experiment.
            params: Passed to the entry; JSON values only.
            model_dir: Where checkpoints go: a directory that all workers share, of which a relative path is made
                absolute, or a URL such as s3://bucket/models/iris.
            workers: Worker tasks beside the chief: the job needs 1 + workers slots.
            name: First part of the job's id; by default from the entry.
            queue: The slots that listen on it.
            priority: Jobs of a higher one are admitted first.
            env: Environment variables of the training processes; no secrets.
            max_failures: How many generations may fail before the job is FAILED.
            code_dir: Directory of the user's code, of which tasks get a snapshot if the entry's module is in it; by
                default the directory from which a passed function was imported, else the working directory.

        Raises:
            EntryError: No task could import the entry.
            JobSpecError: Another argument cannot be used.
            ModelDirError: model_dir cannot be used or written: there is no such bucket, it is read-only, or the
                credentials are wrong.
            StoreUnavailableError: Its store does not answer.
            ModelDirInUseError: A job that has not ended uses it.
            CodeSnapshotError: The code cannot be packed.
            RedisUnavailableError: Redis does not answer.
        """
        qualified = entry_name(entry)
        spec = _spec(
            entry=qualified,
            params={} if params is None else params,
            model_dir=_resolve(model_dir),
            workers=workers,
            name=_default_name(qualified) if name is None else name,
            queue=queue,
            priority=priority,
            env={} if env is None else env,
            max_failures=max_failures,
        )
        root = _code_root(entry, code_dir)
        needs_snapshot = check_entry(qualified, root)
        return self._submit(spec, root if needs_snapshot else None)

    def _submit(self, spec: JobSpec, code_dir: Path | None) -> Job:
        self._store.ping()
        # The script of the store decides; asked here already, so that a refusal leaves the other job's files alone.
        if holder := self._store.holder(spec.model_dir):
            raise in_use(spec.model_dir, holder)
        snapshot = _pack(spec, code_dir) if code_dir else None
        # Somebody waits for the answer: for long enough to outlast a hiccup of the store, and no longer.
        directory = open_directory(spec.model_dir, retry=Retry(budget_secs=_RETRY_SECS))
        directory.check_writable()
        if snapshot:
            spec = spec.model_copy(update={"code": snapshot.sha256})
            if directory.stat(name := snapshot_name(snapshot.sha256)) is None:
                directory.write_bytes(name, snapshot.data)
        write_spec(directory, spec)
        return Job(self._store, self._store.submit(spec).id, code=snapshot.contents if snapshot else None)

    def get(self, job_id: str) -> Job:
        """The job with that id.

        Raises:
            JobNotFoundError: There is none.
        """
        return Job(self._store, self._store.job(job_id).id)

    def list(self) -> list_[Job]:
        """All jobs, oldest first."""
        return [Job(self._store, job.id) for job in self._store.jobs()]


def _resolve(model_dir: str | os.PathLike[str]) -> str:
    if not isinstance(model_dir, str | os.PathLike):
        raise ModelDirError(f"model_dir={model_dir!r}: expected a path such as /data/models/iris.")
    url = resolve_model_dir(model_dir)
    if url.startswith("memory://"):
        raise ModelDirError(
            f"model_dir={url!r} is in the memory of this process, where no task of a job would find it. "
            "Give a path that all workers share, or a URL such as s3://bucket/models/iris."
        )
    return url


def _spec(**fields: Any) -> JobSpec:
    try:
        return JobSpec(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        # What is given for env may be a secret, and of params only the part in question is of interest.
        is_shown = field != "env" and not isinstance(first["input"], dict)
        given = f"={first['input']!r}" if is_shown else ""
        raise JobSpecError(f"{where}{given}: {message}. {_HINTS.get(field, '')}".rstrip()) from error


def _default_name(entry: str) -> str:
    """A name from the entry: "iris" for "models.iris:experiment", "iris-wide" for "models.iris:wide"."""
    module, _, function = entry.partition(":")
    words = module.rpartition(".")[2] + ("" if function == "experiment" else f"-{function}")
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:_MAX_NAME].strip("-") or "job"


def _code_root(entry: str | Callable[..., Any], code_dir: str | os.PathLike[str] | None) -> Path | None:
    """Where the user's code would be; None if the entry is a function of an installed package."""
    if code_dir is not None:
        root = Path(code_dir).expanduser().resolve()
        if not root.is_dir():
            raise CodeSnapshotError(f"code_dir={os.fspath(code_dir)!r} is not a directory.")
        return root
    return Path.cwd() if isinstance(entry, str) else source_root(entry)


def _pack(spec: JobSpec, code_dir: Path) -> Snapshot:
    if not is_local(spec.model_dir):
        return pack(code_dir)
    model_dir = Path(spec.model_dir)
    if model_dir.resolve() == code_dir.resolve():
        raise ModelDirError(
            f"model_dir {spec.model_dir} is the directory of the code, and its checkpoints would become part of the "
            "next snapshot. Choose a directory below it, or elsewhere."
        )
    return pack(code_dir, exclude=[model_dir])
