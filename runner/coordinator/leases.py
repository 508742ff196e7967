"""Leases as a coordinator sees them: counters that their holders increment."""

from collections.abc import Callable

__all__ = ["LeaseWatch"]


class LeaseWatch:
    """Tells lost leases from live ones without comparing clocks.

    A lease is lost once this watch has seen its counter unchanged for `lease_secs` on its own clock, looking without a
    break. It is live once it was seen to change, or to appear between two looks: a counter found at the first look may
    be years old.

    Args:
        lease_secs: How long a counter may stay unchanged.
        clock: Monotonic time in seconds.
    """

    def __init__(self, lease_secs: float, *, clock: Callable[[], float]) -> None:
        self._lease_secs = lease_secs
        self._clock = clock
        self._now = clock()
        self._looks = 0
        self._counters: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._live: set[str] = set()
        self._seen: set[str] = set()

    def begin(self) -> bool:
        """Begins a look at all leases.

        Returns:
            Whether there was no break. One that lasted half as long as a lease counts even if nothing failed: had this
            process been stopped, or a command hung, the holders may have been unable to renew as well.
        """
        now = self._clock()
        unbroken = self._looks > 0 and now - self._now < self._lease_secs / 2
        if not unbroken:
            self.reset()
        self._now = now
        return unbroken

    def observe(self, key: str, counter: int) -> bool:
        """Notes the counter of one lease during a look; returns whether the lease is lost."""
        self._seen.add(key)
        known = self._counters.get(key)
        if known != counter:
            if known is not None or self._looks:
                self._live.add(key)
            self._counters[key], self._since[key] = counter, self._now
        return self._now - self._since[key] >= self._lease_secs

    def is_live(self, key: str) -> bool:
        """Whether somebody was seen to renew, or to take, the lease."""
        return key in self._live

    def doubt(self, key: str) -> None:
        """Takes a lease for not live until it is renewed again."""
        self._live.discard(key)

    def end(self) -> None:
        """Ends a look: a lease that was not in it is forgotten."""
        for key in set(self._counters) - self._seen:
            del self._counters[key], self._since[key]
            self._live.discard(key)
        self._seen.clear()
        self._looks += 1

    def reset(self) -> None:
        """Forgets everything: Redis was away, and nothing seen before says anything about now."""
        self._looks = 0
        for memory in (self._counters, self._since, self._live, self._seen):
            memory.clear()
