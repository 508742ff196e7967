"""Presence: tells the coordinator, again and again, that a worker is there."""

import logging
import threading
from collections.abc import Callable

import redis

from runner.errors import RedisUnavailableError
from runner.jobs.state import WorkerInfo
from runner.jobs.store import JobStore

__all__ = ["Presence"]

_logger = logging.getLogger(__name__)


class Presence:
    """Announces a worker at once and then every period, in a thread of its own, until closed.

    Args:
        store: The job store; its outages are survived.
        info: What is announced; may ask Redis for the address.
        period_secs: Between two announcements.
    """

    def __init__(self, store: JobStore, info: Callable[[], WorkerInfo], *, period_secs: float) -> None:
        self._store = store
        self._info = info
        self._period_secs = period_secs
        self._announced: WorkerInfo | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._thread.start()

    def close(self, *, timeout_secs: float) -> None:
        """Withdraws the worker, and waits for that as long as given; idempotent."""
        self._closing.set()
        self._thread.join(timeout_secs)

    def _run(self) -> None:
        is_away = False
        while not self._closing.is_set():
            error = self._try(self._announce)
            if error is not None and not is_away:
                _logger.warning("The worker cannot announce itself: %s", error)
            is_away = error is not None
            self._closing.wait(self._period_secs)
        # A goodbye that does not arrive is no harm: the coordinator notices that the counter stands still.
        self._try(self._withdraw)

    def _announce(self) -> None:
        if self._announced is None:
            self._announced = self._info()
        self._store.announce(self._announced)

    def _withdraw(self) -> None:
        if self._announced is not None:
            self._store.withdraw(self._announced.id)

    def _try(self, action: Callable[[], None]) -> Exception | None:
        try:
            action()
        except (RedisUnavailableError, redis.RedisError) as error:
            return error
        return None
