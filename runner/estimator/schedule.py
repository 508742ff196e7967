"""When something that happens every N steps, or every N seconds, is due."""

import math
import time
from collections.abc import Callable

__all__ = ["Schedule"]


class Schedule:
    """Every `every_steps` steps or every `every_secs` seconds since the last mark.

    Args:
        every_steps: Interval in steps; or
        every_secs: Interval in seconds. With neither, nothing is ever due.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        every_steps: int | None = None,
        every_secs: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_steps = every_steps
        self._every_secs = every_secs
        self._clock = clock
        self._marked: tuple[int, float] | None = None

    @property
    def counts_secs(self) -> bool:
        """Whether the interval is one in seconds."""
        return bool(self._every_secs) and not self._every_steps

    def is_due(self, step: int) -> bool:
        """Whether the interval has passed at this step; before the first mark it always has."""
        if not self._every_steps and not self._every_secs:
            return False
        if self._marked is None:
            return True
        last_step, last_time = self._marked
        if self._every_steps:
            return step >= last_step + self._every_steps
        return self._clock() >= last_time + (self._every_secs or 0)

    def next_due(self, step: int) -> float:
        """The first step after `step` at which it is due; infinity if only the clock knows, and it is not yet time."""
        if self._every_steps and self._marked is not None:
            return max(self._marked[0] + self._every_steps, step + 1)
        return step + 1 if self.is_due(step) else math.inf

    def mark(self, step: int) -> tuple[int, float] | None:
        """Counts the interval from here.

        Returns:
            (steps, seconds) since the mark before; None at the first one.
        """
        now, before = self._clock(), self._marked
        self._marked = step, now
        return None if before is None else (step - before[0], now - before[1])

    def restart_clock(self) -> None:
        """Counts an interval in seconds from now; one in steps goes on from its last mark."""
        if self._marked is not None:
            self._marked = self._marked[0], self._clock()
