"""How contenders of a benchmark take turns, and how their times are compared."""

import sys
import time

import pytest

from benchmarks.checkpoint import Figures, at_least, at_most
from benchmarks.checkpoint_usage import peak_bytes, used
from benchmarks.steps import Match, Rival, row
from benchmarks.turns import contenders

COUNTING = "from benchmarks.turns import serve; done = []; serve(done.append); raise SystemExit(sum(done) != 50)"


def test_a_contender_does_its_turns_and_ends_with_them() -> None:
    with contenders({"counting": [sys.executable, "-c", COUNTING]}) as players:
        process = players["counting"].process
        times = [players["counting"].turn(20), players["counting"].turn(20)]

    assert all(0 < seconds < 10 for seconds in times)
    assert process.returncode == 0  # 20 and a quarter of it, twice


def test_a_contender_that_is_gone_is_an_error() -> None:
    with (
        contenders({"gone": [sys.executable, "-c", "raise SystemExit(3)"]}) as players,
        pytest.raises(RuntimeError, match="ended"),
    ):
        players["gone"].turn(1)


def test_times_are_compared_round_by_round() -> None:
    rival = Rival("slow", (), target=2.0)
    match = Match("work", "what", turn=10, rivals=(rival,))

    result = row(match, rival, {"ours": [1.0, 2.0, 5.0], "slow": [3.0, 5.0, 5.0]}, note="")

    assert result == {
        "work": "work",
        "against": "slow",
        "ratio": 2.5,
        "unit": "times as quick",
        "target": 2.0,
        "met": True,
        "ours_per_second": 5.0,
        "theirs_per_second": 2.0,
    }


def test_a_contender_answers_what_it_is_asked() -> None:
    script = (
        "from benchmarks.turns import Turns\n"
        "turns = Turns()\n"
        "while (request := turns.next()) is not None:\n"
        "    print('noise')\n"
        "    turns.report({'asked': request})\n"
    )

    with contenders({"echo": [sys.executable, "-c", script]}) as players:
        assert players["echo"].ask({"do": "save"}) == {"asked": {"do": "save"}}


def test_figures_are_compared_round_by_round() -> None:
    figures = Figures()
    for ours, theirs in ((1.0, 3.0), (2.0, 5.0), (5.0, 5.0)):
        figures.add("ours", {"secs": ours})
        figures.add("theirs", {"secs": theirs})

    assert figures.median("ours secs") == 2.0
    assert figures.ratio("theirs secs", "ours secs") == 2.5


def test_a_row_says_whether_its_target_is_met() -> None:
    assert at_least("save", "write", 2.0, 2.0, ours=0.12345)["met"] is True
    assert at_least("save", "write", 1.99, 2.0)["met"] is False
    assert at_most("save", "5 ms", 5.0, 5.0, "ms")["met"] is True
    assert at_most("save", "5 ms", 5.1, 5.0, "ms") == {
        "work": "save",
        "against": "5 ms",
        "value": 5.1,
        "unit": "ms",
        "target": 5.0,
        "met": False,
    }


def test_the_peak_of_memory_is_that_of_the_work() -> None:
    before = peak_bytes(lambda: None)

    with_work = peak_bytes(lambda: bytes(range(256)) * 400_000)

    assert 90_000_000 < with_work - before < 150_000_000


def test_work_is_timed_by_the_clock_and_by_the_processor() -> None:
    def spin() -> None:
        start = time.process_time()
        while time.process_time() < start + 0.05:
            pass

    usage = used(spin)

    assert usage["secs"] >= 0.05
    assert 0.04 < usage["cpu_secs"] < 5
