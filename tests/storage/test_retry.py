"""A store is asked again after transient errors, for a limited time."""

import logging

import pytest

from runner.errors import StorageError, StoreUnavailableError
from runner.storage.retry import Retry


class Clock:
    """A time that only pauses and attempts move on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def sleep(self, secs: float) -> None:
        self.pauses.append(secs)
        self.now += secs


class Store:
    """Answers after so many transient errors, each of which takes its time."""

    def __init__(self, clock: Clock, *, errors: int, secs: float = 0.0) -> None:
        self.clock = clock
        self.errors = errors
        self.secs = secs
        self.attempts = 0

    def ask(self) -> str:
        self.attempts += 1
        self.clock.now += self.secs
        if self.attempts <= self.errors:
            raise StoreUnavailableError("Cannot read a: SlowDown.")
        return "answer"


def retry_on(clock: Clock, *, budget_secs: float = 60.0) -> Retry:
    return Retry(
        budget_secs=budget_secs,
        first_secs=1.0,
        longest_secs=8.0,
        clock=lambda: clock.now,
        sleep=clock.sleep,
        draw=lambda _, limit: limit,
    )


def test_an_answer_is_returned_at_once() -> None:
    clock = Clock()

    assert retry_on(clock).call(Store(clock, errors=0).ask, "read a") == "answer"

    assert clock.pauses == []


def test_the_limits_of_the_pauses_double_up_to_the_longest() -> None:
    clock = Clock()

    assert retry_on(clock).call(Store(clock, errors=6).ask, "read a") == "answer"

    assert clock.pauses == [1, 2, 4, 8, 8, 8]


def test_no_attempt_begins_after_the_budget() -> None:
    clock = Clock()
    store = Store(clock, errors=100, secs=3.0)

    with pytest.raises(StoreUnavailableError, match=r"SlowDown\. Tried 4 times in 19 s\."):
        retry_on(clock, budget_secs=20.0).call(store.ask, "read a")

    assert clock.now - 100 <= 20 + 3


def test_a_pause_is_anything_between_nothing_and_its_limit() -> None:
    clock = Clock()
    retry = Retry(budget_secs=1e6, first_secs=1.0, longest_secs=1.0, clock=lambda: clock.now, sleep=clock.sleep)

    retry.call(Store(clock, errors=200).ask, "read a")

    assert 0 <= min(clock.pauses) < 0.1
    assert 0.9 < max(clock.pauses) <= 1


@pytest.mark.parametrize("error", [StorageError("broken"), FileNotFoundError("gone"), ValueError("wrong")])
def test_what_is_not_transient_is_not_tried_again(error: Exception) -> None:
    clock = Clock()

    def fail() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        retry_on(clock).call(fail, "read a")
    assert clock.pauses == []


def test_an_outage_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    retry_on(clock).call(Store(clock, errors=5).ask, "read a")

    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ["Trying again for up to 60 s to read a: Cannot read a: SlowDown."]


def test_the_budget_begins_anew_whenever_an_attempt_got_further() -> None:
    clock = Clock()
    store = Store(clock, errors=9, secs=15.0)

    # Attempts 3, 6 and 9 get further; the two in between take 30 s and pauses.
    assert retry_on(clock).call(store.ask, "read a", progress=lambda: store.attempts // 3) == "answer"

    assert store.attempts == 10
    assert clock.pauses == [1, 2, 1, 2, 4, 1, 2, 4, 1]
