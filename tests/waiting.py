"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["wait_until"]

T = TypeVar("T")


def wait_until(condition: Callable[[], T], describe: Callable[[], str] = str, *, timeout_secs: float = 60) -> T:
    """Polls until the condition holds, and returns what it gave.

    Args:
        condition: Anything true ends the wait.
        describe: What to show if it never holds.
        timeout_secs: Generous: these machines are slow at times.
    """
    give_up_at = time.monotonic() + timeout_secs
    while not (value := condition()):
        assert time.monotonic() < give_up_at, f"not within {timeout_secs:g} s: {describe()}"
        time.sleep(0.01)
    return value
