"""Generation: the coordinator's side of one job, and an outage of the Redis between it and a supervisor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from runner.cluster import Place, TaskType
from runner.jobs.spec import JobSpec
from runner.jobs.state import JobRecord, Task
from runner.jobs.store import JobStore
from runner.settings import Settings
from tests.waiting import wait_until

__all__ = ["CHIEF", "Generation", "redis_away"]

CHIEF = Place(TaskType.CHIEF, 0)


class Generation:
    """The coordinator's side of one job's first generation."""

    def __init__(self, store: JobStore, model_dir: Path, *, code: str | None = None) -> None:
        self._store = store
        self.epoch = store.take_over()
        spec = JobSpec(entry="a:b", model_dir=str(model_dir), name="job", env={"COLOUR": "blue"}, code=code)
        self.id = store.submit(spec).id
        assert store.begin_generation(self.epoch, self.job) == 1

    @property
    def job(self) -> JobRecord:
        return self._store.job(self.id)

    @property
    def chief(self) -> Task:
        return self._store.tasks(self.job)[CHIEF]

    @property
    def log(self) -> list[str]:
        lines = page = self._store.logs(self.id)
        while page:
            page = self._store.logs(self.id, after=page[-1].id)
            lines = [*lines, *page]
        return [line.line for line in lines]

    def pid(self) -> int:
        """The process that holds the place, once there is one."""
        claim = wait_until(lambda: self.chief.claim)
        assert claim is not None
        return claim.pid

    def seal(self) -> None:
        assert self._store.seal(self.epoch, self.job, {"chief": ["10.0.0.1:2222"]})

    def close(self) -> None:
        assert self._store.close_generation(self.epoch, self.job)

    def has_logged(self, text: str) -> Callable[[], bool]:
        return lambda: any(text in line for line in self.log)


@contextmanager
def redis_away(settings: Settings) -> Iterator[None]:
    """Nobody can connect to Redis, and no connection is left."""
    socket_path = Path(settings.redis_url.removeprefix("unix://"))
    hidden_path = socket_path.with_suffix(".hidden")
    client: Any = redis.Redis.from_url(settings.redis_url)
    client.ping()  # connects while that is possible
    socket_path.rename(hidden_path)
    try:
        client.client_kill_filter(_type="normal", skipme=True)
        client.close()
        yield
    finally:
        hidden_path.rename(socket_path)
