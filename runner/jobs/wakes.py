"""Waiting for a change of any job."""

from collections.abc import Callable
from typing import Any

__all__ = ["WAKE_CHANNEL", "Wakes"]

WAKE_CHANNEL = "runner:wake"
_MAX_DRAINED = 1000


class Wakes:
    """Waits for changes. Missing one costs a poll interval, never correctness. For one thread.

    Args:
        client: A connection to Redis.
        errors: A context manager that turns Redis's errors into ours.
    """

    def __init__(self, client: Any, errors: Callable[[], Any]) -> None:
        self._errors = errors
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)

    def wait(self, timeout_secs: float) -> bool:
        """Returns at the next change, or after the time-out; whether there was one."""
        with self._errors():
            if not self._pubsub.subscribed:
                self._pubsub.subscribe(WAKE_CHANNEL)
            if self._pubsub.get_message(timeout=timeout_secs) is None:
                return False
            # One pass of a coordinator answers all of the changes before it.
            for _ in range(_MAX_DRAINED):
                if self._pubsub.get_message(timeout=0) is None:
                    break
            return True

    def close(self) -> None:
        """Ends the subscription; the next `wait` begins another."""
        self._pubsub.close()
