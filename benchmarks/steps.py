"""Steps per second of a training, and the latency of the calls around it, against TensorFlow's own loops.

`python -m benchmarks.steps [--json] [--oracle PYTHON] [--rounds N]`

PYTHON is an interpreter with tensorflow-cpu==2.15.1, the last release that had tf.estimator. Without it those rows are
left out, and named.
"""

import argparse
import json
import os
import sys
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.turns import contenders
from benchmarks.workloads import WORKLOADS

__all__ = ["Match", "Rival", "main", "row"]

_IDLE_LOAD = 1.5
"""Load of the machine, with one contender running, above which the figures are called disturbed."""


@dataclass(frozen=True)
class Rival:
    """Whom we are compared with, and how many times as quick we want to be."""

    name: str
    command: tuple[str, ...]
    target: float


@dataclass(frozen=True)
class Match:
    """One kind of work: what a turn is, and the rivals."""

    work: str
    what: str
    turn: int
    rivals: tuple[Rival, ...]


def _matches(oracle: str | None) -> list[Match]:
    python = sys.executable
    session = (python, "-m", "benchmarks.session_contenders")

    def original(what: str, target: float) -> tuple[Rival, ...]:
        command = (oracle or "", "-m", "benchmarks.estimator_contenders", "original", what)
        return (Rival("tf.estimator 2.15", command, target),) if oracle else ()

    def sessions(what: str, **targets: float) -> tuple[Rival, ...]:
        names = {
            "monitored": "MonitoredTrainingSession",
            "callable": "make_callable",
            "server": "make_callable, tf.distribute.Server",
        }
        return tuple(Rival(names[who], (*session, who, what), target) for who, target in targets.items())

    matches = [
        Match(
            "iris, DNN [10, 10], batch 100",
            "iris",
            WORKLOADS["iris"].steps,
            (*sessions("iris", monitored=2.5, callable=1.1, server=1.8), *original("iris", 2.0)),
        ),
        Match(
            "784-1024-1024-1024-10, batch 256",
            "mnist",
            WORKLOADS["mnist"].steps,
            (*sessions("mnist", monitored=0.98, callable=0.98), *original("mnist", 1.0)),
        ),
        Match("train(steps=1), iris", "train", 4, original("train", 1.0)),
        Match("second predict, 150 rows of iris", "predict", 4, original("predict", 1.0)),
    ]
    return [match for match in matches if match.rivals]


def _play(match: Match, rounds: int) -> list[dict[str, object]]:
    """Lets all take turns, and compares the times of each round."""
    ours = ("ours", [sys.executable, "-m", "benchmarks.estimator_contenders", "ours", match.what])
    commands = dict([ours, *((rival.name, list(rival.command)) for rival in match.rivals)])
    times: dict[str, list[float]] = {name: [] for name in commands}
    with contenders(commands) as players:
        for player in players.values():
            player.turn(match.turn)  # whatever is done once only is done now
        load = os.getloadavg()[0]
        for number in range(rounds):
            order = list(players)[number % len(players) :] + list(players)[: number % len(players)]
            for name in order:
                times[name].append(players[name].turn(match.turn))
    note = f"load average {load:.1f} before the turns: disturbed" if load > _IDLE_LOAD else ""
    return [row(match, rival, times, note) for rival in match.rivals]


def row(match: Match, rival: Rival, times: dict[str, list[float]], note: str) -> dict[str, object]:
    """What is printed of one rival: medians, and the median of the ratios of each round."""
    ratio = median(theirs / ours for theirs, ours in zip(times[rival.name], times["ours"], strict=True))
    return {
        "work": match.work,
        "against": rival.name,
        "ratio": round(ratio, 3),
        "unit": "times as quick",
        "target": rival.target,
        "met": ratio >= rival.target,
        "ours_per_second": round(match.turn / median(times["ours"]), 2),
        "theirs_per_second": round(match.turn / median(times[rival.name]), 2),
        **({"note": note} if note else {}),
    }


def _table(rows: list[dict[str, object]]) -> Table:
    table = Table("work", "against", "ours /s", "theirs /s", "ratio", "target", "")
    for row in rows:
        cells = [row["work"], row["against"], row["ours_per_second"], row["theirs_per_second"], row["ratio"]]
        table.add_row(*map(str, cells), f">= {row['target']}", "met" if row["met"] else "missed")
    return table


def main() -> None:
    """Measures, and prints a table, or with --json a list of objects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    parser.add_argument("--oracle", help="Python interpreter with tensorflow-cpu==2.15.1")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender (at least 5)")
    parser.add_argument("--only", help="iris, mnist, train or predict")
    arguments = parser.parse_args()
    matches = [match for match in _matches(arguments.oracle) if arguments.only in (None, match.what)]
    rows = [row for match in matches for row in _play(match, max(arguments.rounds, 5))]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    Console().print(_table(rows))
    for note in sorted({str(row["note"]) for row in rows if "note" in row}):
        print(note)
    if arguments.oracle is None:
        print("Without --oracle: nothing was compared with tf.estimator 2.15.")


if __name__ == "__main__":
    main()
