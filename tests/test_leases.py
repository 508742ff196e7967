"""Leases, watched on a clock that the test turns."""

from collections.abc import Mapping

import pytest

from runner.coordinator.leases import LeaseWatch


class Watch:
    """A LeaseWatch of 15 s with its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.leases = LeaseWatch(15, clock=lambda: self.now)

    def look(self, counters: Mapping[str, int], *, after_secs: float = 1) -> set[str]:
        """One look at all leases; returns the lost ones."""
        self.now += after_secs
        self.leases.begin()
        lost = {key for key, counter in counters.items() if self.leases.observe(key, counter)}
        self.leases.end()
        return lost


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_a_lease_is_lost_after_its_time_without_a_change(watch: Watch) -> None:
    looks = [watch.look({"a": 7}) for _ in range(16)]

    assert looks == [set()] * 15 + [{"a"}]


def test_a_lease_that_changes_is_never_lost(watch: Watch) -> None:
    assert not any(watch.look({"a": beat // 10}) for beat in range(100))


def test_a_counter_that_goes_backwards_is_a_change(watch: Watch) -> None:
    for _ in range(10):
        watch.look({"a": 7})
    watch.look({"a": 3})

    assert not any(watch.look({"a": 3}) for _ in range(14))


def test_a_reset_begins_all_observations_anew(watch: Watch) -> None:
    for _ in range(15):
        watch.look({"a": 7})
    watch.leases.reset()

    assert not any(watch.look({"a": 7}) for _ in range(15))
    assert watch.look({"a": 7}) == {"a"}


def test_a_long_time_without_a_look_is_a_break(watch: Watch) -> None:
    watch.look({"a": 7})

    assert watch.look({"a": 7}, after_secs=100) == set()


def test_a_lease_found_at_the_first_look_is_live_once_it_changes(watch: Watch) -> None:
    watch.look({"old": 7})
    assert not watch.leases.is_live("old")

    watch.look({"old": 8})

    assert watch.leases.is_live("old")


def test_a_lease_that_appears_later_is_live_at_once(watch: Watch) -> None:
    watch.look({})
    watch.look({"new": 1})

    assert watch.leases.is_live("new")


def test_a_doubted_lease_is_live_again_once_it_changes(watch: Watch) -> None:
    watch.look({})
    watch.look({"a": 1})
    watch.leases.doubt("a")
    watch.look({"a": 1})
    assert not watch.leases.is_live("a")

    watch.look({"a": 2})

    assert watch.leases.is_live("a")


def test_a_lease_that_is_gone_is_forgotten(watch: Watch) -> None:
    watch.look({"a": 1})
    watch.look({})

    assert not any(watch.look({"a": 1}) for _ in range(15))
