"""Asking a store again after a transient error, for a limited time."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from runner.errors import StoreUnavailableError

__all__ = ["Retry"]

T = TypeVar("T")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Exponential back-off with full jitter, so that tasks that failed together do not come back together.

    Each pause is drawn from 0 to a limit, which doubles from one to the next.

    Attributes:
        budget_secs: No attempt begins later than this after the first one, or after the last one that got further.
        first_secs: Limit of the first pause.
        longest_secs: No limit is above it.
        clock: A time in seconds that never goes back.
        sleep: Waits for so many seconds.
        draw: A number between two.
    """

    budget_secs: float = 60.0
    first_secs: float = 0.1
    longest_secs: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[float, float], float] = random.uniform

    def call(self, attempt: Callable[[], T], what: str, *, progress: Callable[[], object] = lambda: None) -> T:
        """Returns what an attempt returns; all other errors than StoreUnavailableError are final.

        Args:
            attempt: May be called many times, and must be safe to repeat after a lost reply.
            what: What is attempted, for the log: "read s3://bucket/iris/checkpoint".
            progress: How far the attempts have got, where the next one goes on from there. A store that is slow, and
                gives something each time, is not given up.

        Raises:
            StoreUnavailableError: The last attempt's, once the budget is used up.
        """
        start, reached = self.clock(), progress()
        limit_secs = self.first_secs
        attempts = 1
        while True:
            try:
                return attempt()
            except StoreUnavailableError as error:
                if progress() != reached:
                    start, reached, limit_secs = self.clock(), progress(), self.first_secs
                pause_secs = self.draw(0.0, limit_secs)
                waited_secs = self.clock() - start
                if waited_secs + pause_secs > self.budget_secs:
                    raise StoreUnavailableError(f"{error} Tried {attempts} times in {waited_secs:.0f} s.") from error
                # Once is enough: an outage would fill the log, and its end is either silence or an error.
                level = logging.WARNING if attempts == 1 else logging.DEBUG
                _logger.log(level, "Trying again for up to %g s to %s: %s", self.budget_secs, what, error)
            self.sleep(pause_secs)
            attempts += 1
            limit_secs = min(2 * limit_secs, self.longest_secs)
