"""LogPump with a ship that is slow, that fails, or that is refused."""

import threading

import redis

from runner.errors import RedisUnavailableError
from workers.logs import LogPump


class Ship:
    """Takes lines while its gate is open, and raises what it is told to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.errors: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.called = threading.Event()

    def __call__(self, lines: list[str]) -> None:
        self.called.set()
        self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.lines += lines


def test_lines_arrive_in_order_and_at_the_latest_when_it_is_closed() -> None:
    ship = Ship()
    pump = LogPump(ship)

    for number in range(2000):
        pump.add(b"%d" % number)
    pump.close(timeout_secs=60)

    assert ship.lines == [str(number) for number in range(2000)]


def test_lines_that_meet_an_outage_are_shipped_after_it() -> None:
    ship = Ship()
    ship.errors = [RedisUnavailableError("away")]
    pump = LogPump(ship)

    pump.add(b"first")
    pump.close(timeout_secs=60)

    assert ship.lines == ["first"]


def test_a_slow_ship_slows_the_writer_down_and_loses_nothing() -> None:
    ship = Ship()
    pump = LogPump(ship, backlog_bytes=100)
    ship.gate.clear()
    pump.add(b"x" * 100)
    ship.called.wait()  # with the first line, which leaves room for as many bytes again

    pump.add(b"y" * 100)
    threading.Timer(0.05, ship.gate.set).start()
    pump.add(b"z" * 100)
    pump.close(timeout_secs=60)

    assert [line[0] for line in ship.lines] == ["x", "y", "z"]


def test_a_ship_that_hangs_costs_the_oldest_lines_and_says_how_many() -> None:
    ship = Ship()
    pump = LogPump(ship, backlog_bytes=100)
    ship.gate.clear()
    pump.add(b"x" * 100)
    ship.called.wait()

    for letter in (b"a", b"b", b"c"):
        pump.add(letter * 100)
    ship.gate.set()
    pump.close(timeout_secs=60)

    assert ship.lines == ["x" * 100, "... 2 lines were dropped: the log could not keep up.", "c" * 100]


def test_lines_that_redis_refuses_do_not_hold_up_those_after_them() -> None:
    ship = Ship()
    ship.errors = [redis.ResponseError("WRONGTYPE")]
    pump = LogPump(ship)
    ship.gate.clear()
    pump.add(b"refused")
    ship.called.wait()

    pump.add(b"taken")
    ship.gate.set()
    pump.close(timeout_secs=60)

    assert ship.lines == ["taken"]


def test_closing_is_bounded_while_redis_is_away() -> None:
    ship = Ship()
    ship.errors = [RedisUnavailableError("away")] * 1000
    pump = LogPump(ship)

    pump.add(b"lost")
    pump.close(timeout_secs=0.1)

    assert ship.lines == []
