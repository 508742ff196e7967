"""LogPump: carries a training process's output to the job's log without holding the process up."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import redis

from runner.errors import RedisUnavailableError

__all__ = ["LogPump"]

_BACKLOG_BYTES = 4 * 1024 * 1024
_BATCH_LINES = 500
_BATCH_BYTES = 256 * 1024
_PATIENCE_SECS = 1.0
_RETRY_SECS = 0.5

_logger = logging.getLogger(__name__)


class LogPump:
    """A bounded backlog of lines and the thread that ships them in batches.

    A writer that is faster than the ship is slowed down; while the ship fails, it is not held up but the oldest lines
    are dropped, and one line in the log says how many.

    Args:
        ship: Stores lines, in order; raises RedisUnavailableError if that should be tried again.
        backlog_bytes: Lines above this size together are held back or dropped.
    """

    def __init__(self, ship: Callable[[list[str]], None], *, backlog_bytes: int = _BACKLOG_BYTES) -> None:
        self._ship = ship
        self._backlog_bytes = backlog_bytes
        self._lines: deque[bytes] = deque()
        self._size_bytes = 0
        self._dropped = 0
        self._healthy = True
        self._closing_at: float | None = None
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log-pump", daemon=True)
        self._thread.start()

    def add(self, line: bytes) -> None:
        """Takes one line; undecodable bytes of it are replaced. Waits a moment at most."""
        with self._condition:
            if not self._fits():
                self._healthy = self._condition.wait_for(self._fits_or_fails, _PATIENCE_SECS) and self._healthy
            while self._lines and not self._fits():
                self._size_bytes -= len(self._lines.popleft())
                self._dropped += 1
            self._lines.append(line)
            self._size_bytes += len(line)
            self._condition.notify_all()

    def close(self, *, timeout_secs: float) -> None:
        """Ships what is left, for at most that long; no `add` after this."""
        with self._condition:
            self._closing_at = time.monotonic() + timeout_secs
            self._condition.notify_all()
        self._thread.join(timeout_secs)

    def _fits(self) -> bool:
        return self._size_bytes < self._backlog_bytes

    def _fits_or_fails(self) -> bool:
        return self._fits() or not self._healthy

    def _run(self) -> None:
        while batch := self._take():
            while not self._shipped(batch):
                with self._condition:
                    self._condition.notify_all()  # a waiting writer need not wait any longer
                    if self._closing_at is not None and time.monotonic() > self._closing_at:
                        return
                    self._condition.wait(_RETRY_SECS)

    def _take(self) -> list[str]:
        """The next batch; empty at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._lines or self._closing_at is not None)
            batch = []
            if self._dropped:
                batch.append(f"... {self._dropped} lines were dropped: the log could not keep up.")
                self._dropped = 0
            size_bytes = 0
            while self._lines and len(batch) < _BATCH_LINES and size_bytes < _BATCH_BYTES:
                line = self._lines.popleft()
                size_bytes += len(line)
                batch.append(line.decode(errors="replace").rstrip("\r"))
            self._size_bytes -= size_bytes
            self._condition.notify_all()
            return batch

    def _shipped(self, batch: list[str]) -> bool:
        """Ships one batch; whether it need not be tried again."""
        try:
            self._ship(batch)
        except RedisUnavailableError as error:
            if self._healthy:
                _logger.warning("Log lines wait: %s", error)
            self._healthy = False
            return False
        except redis.RedisError:
            # Redis answered with a refusal: the same lines would be refused again.
            _logger.exception("%d log lines are lost.", len(batch))
        self._healthy = True
        return True
