"""How contenders of a benchmark take turns, and how their times are compared."""

import sys

import pytest

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
