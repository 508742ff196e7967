"""Saving and restoring checkpoints against TensorFlow's own ways, s3fs and Orbax.

`python -m benchmarks.checkpoint [--json] [--mib N] [--rounds N] [--orbax PYTHON] [--directory PATH] [--only WORK]`

PYTHON is an interpreter with orbax-checkpoint==0.12.8 and jax. Without it that row is left out, and named. PATH is on
the disk to be measured, and needs room for twelve times the variables.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.checkpoint_stores import BUCKET, null_s3, seaweedfs
from benchmarks.turns import Contender, contenders

__all__ = ["Figures", "at_least", "at_most", "main"]

_IDLE_LOAD = 1.5
"""Load of the machine, before anything is started, above which the figures are called disturbed."""

_READERS = 9
_MIB = 1 << 20

Row = dict[str, object]
Answer = dict[str, float]


class Figures:
    """What the rounds of one kind of work gave: for each name a list of numbers, in the order of the rounds."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[float]] = {}

    def add(self, who: str, answer: Answer) -> None:
        """Adds the numbers of one answer."""
        for name, value in answer.items():
            self._by_name.setdefault(f"{who} {name}", []).append(value)

    def median(self, name: str) -> float:
        """Of one name: "ours secs"."""
        return median(self._by_name[name])

    def ratio(self, theirs: str, ours: str) -> float:
        """The median of the ratios of each round."""
        return median(each / own for each, own in zip(self._by_name[theirs], self._by_name[ours], strict=True))


def at_least(work: str, against: str, ratio: float, target: float, **facts: float) -> Row:
    """A row of how many times as quick we are."""
    row = {"work": work, "against": against, "ratio": round(ratio, 3), "unit": "times as quick", "target": target}
    return {**row, "met": ratio >= target, **{name: round(value, 4) for name, value in facts.items()}}


def at_most(work: str, against: str, value: float, target: float, unit: str) -> Row:
    """A row of a figure that is to be small."""
    row = {"work": work, "against": against, "value": round(value, 4), "unit": unit, "target": target}
    return {**row, "met": value <= target}


@dataclass
class _Match:
    """All that takes part.

    Attributes:
        players: The contenders by name; Orbax may be missing.
        folder: Of the files of all.
        stores: The variables AWS_* of the S3 servers by name.
        rounds: How many there are of each kind of work.
        mib: Size of the variables together.
    """

    players: dict[str, Contender]
    folder: Path
    stores: dict[str, dict[str, str]]
    rounds: int
    mib: int
    steps: dict[str, int] = field(default_factory=dict)

    def ask(self, who: str, do: str, **target: Any) -> Answer:
        """What a contender measured."""
        answer: Answer = self.players[who].ask({"do": do, "target": target})
        return answer

    def take_turns(self, **turns: Callable[[], Answer]) -> Figures:
        """Has each do its turn once unmeasured, and then in each round, in an order that changes."""
        # What the work before left to the disk would be waited for by whoever asks the disk next.
        os.sync()
        for turn in turns.values():
            turn()
        figures = Figures()
        for number in range(self.rounds):
            first = number % len(turns)
            for who in [*turns][first:] + [*turns][:first]:
                figures.add(who, turns[who]())
        return figures

    def save(self, url: str, **target: Any) -> Answer:
        """Ours; the step is kept for the restore."""
        answer = self.ask("ours", "save", url=url, **target)
        self.steps[url] = int(answer["step"])
        return answer


def _blocking(match: _Match) -> Iterator[Row]:
    ours = str(match.folder / "stall")
    turns = {
        "ours": lambda: match.ask("ours", "stall", url=ours, durable=False),
        "tensorflow": lambda: match.ask("tensorflow", "blocked", folder=str(match.folder / "async")),
    }
    if "orbax" in match.players:
        turns["orbax"] = lambda: match.ask("orbax", "save", folder=str(match.folder / "orbax"))
    figures = match.take_turns(**turns)
    blocked = figures.median("ours blocked_secs")
    work = "time that save() blocks training"
    yield at_most(work, "5 ms", 1000 * blocked, 5.0, "ms")
    for who, name in (("orbax", "Orbax 0.12.8 async"), ("tensorflow", "Checkpoint.write, enable_async")):
        if who in match.players:
            ratio = figures.ratio(f"{who} blocked_secs", "ours blocked_secs")
            yield at_least(work, name, ratio, 1.0, ours=blocked, theirs=figures.median(f"{who} blocked_secs"))
    copies = figures.ratio("ours stalled_secs", "ours memcpy_secs")
    yield at_most("stall with the next step", "one memcpy into warm memory", copies, 2.0, "times as long")


def _saving_locally(match: _Match) -> Iterator[Row]:
    for durable, against, target in ((False, "Checkpoint.write", 2.0), (True, "Checkpoint.write and fsync", 1.3)):
        kind = "durable" if durable else "page cache"
        ours, theirs = str(match.folder / f"ours {kind}"), str(match.folder / f"theirs {kind}")

        def save(url: str = ours, durable: bool = durable) -> Answer:  # noqa: FBT001 - bound for the loop
            return match.save(url, durable=durable)

        def write(folder: str = theirs, durable: bool = durable) -> Answer:  # noqa: FBT001 - bound for the loop
            return match.ask("tensorflow", "save", folder=folder, durable=durable)

        figures = match.take_turns(ours=save, tensorflow=write)
        yield _quicker(f"save to local disk, {kind}", against, figures, target)


def _restoring_locally(match: _Match) -> Iterator[Row]:
    ours, theirs = str(match.folder / "restored"), str(match.folder / "read")
    match.save(ours, durable=False)
    match.ask("tensorflow", "save", folder=theirs)
    figures = match.take_turns(
        ours=lambda: match.ask("ours", "restore", url=ours, step=match.steps[ours]),
        tensorflow=lambda: match.ask("tensorflow", "restore", folder=theirs),
    )
    yield _quicker("restore from local disk", "Checkpoint.read", figures, 1.3)


def _saving_to_s3(match: _Match) -> Iterator[Row]:
    against = "Checkpoint.write and s3fs.put_file"
    figures = _saved(match, "null sink")
    yield _quicker("save to S3, null sink", against, figures, 5.0)
    cpu = figures.ratio("tensorflow cpu_secs", "ours cpu_secs")
    facts = {"ours": figures.median("ours cpu_secs"), "theirs": figures.median("tensorflow cpu_secs")}
    yield at_least("save to S3, null sink, processor time", against, cpu, 6.0, **facts)
    figures = _saved(match, "SeaweedFS")
    yield _quicker("save to S3, SeaweedFS", against, figures, 1.2)
    cpu_per_gib = figures.median("ours cpu_secs") * 1024 / match.mib
    yield at_most("save to S3, SeaweedFS, our processor time", "0.5 s", cpu_per_gib, 0.5, "s per GiB")


def _saved(match: _Match, store: str) -> Figures:
    ours, theirs = _s3_targets(match, store)
    return match.take_turns(
        ours=lambda: match.save(**ours),
        tensorflow=lambda: match.ask("tensorflow", "save", **theirs),
    )


def _restoring_from_s3(match: _Match) -> Iterator[Row]:
    ours, theirs = _s3_targets(match, "SeaweedFS")
    match.save(**ours)
    match.ask("tensorflow", "save", **theirs)
    figures = match.take_turns(
        ours=lambda: match.ask("ours", "restore", **ours, step=match.steps[ours["url"]]),
        tensorflow=lambda: match.ask("tensorflow", "restore", **theirs),
    )
    yield _quicker("restore from S3, SeaweedFS", "s3fs.get_file and Checkpoint.read", figures, 2.0)


def _peak(match: _Match) -> Iterator[Row]:
    ours, _ = _s3_targets(match, "null sink")
    with contenders({"ours": _our_command(match.mib)}) as fresh:
        alone = replace(match, players=fresh)
        figures = alone.take_turns(
            local=lambda: alone.ask("ours", "peak", url=str(match.folder / "peak"), durable=False),
            remote=lambda: alone.ask("ours", "peak", **ours),
        )
    for where in ("local", "remote"):
        extra_mib = figures.median(f"{where} extra_bytes") / _MIB
        where_to = "to local disk" if where == "local" else "to S3, null sink"
        yield at_most(
            f"peak extra memory while saving {where_to}", "the copies of the update itself", extra_mib, 128.0, "MiB"
        )


def _reading_at_once(match: _Match) -> Iterator[Row]:
    ours, _ = _s3_targets(match, "SeaweedFS")
    match.save(**ours)
    target = {**ours, "step": match.steps[ours["url"]]}
    commands = {str(number): [sys.executable, "-m", "benchmarks.checkpoint_reader"] for number in range(_READERS)}
    with contenders(commands) as readers, ThreadPoolExecutor(_READERS) as threads:
        together = list(threads.map(lambda reader: reader.ask({"do": "read", "target": target}), readers.values()))
    work = f"chief and {_READERS - 1} readers restoring at once, SeaweedFS"
    yield at_most(work, "bytes of the checkpoint", max(each["times_read"] for each in together), 1.0, "times read")


_WORKS = {
    "blocking": _blocking,
    "local": _saving_locally,
    "restore-local": _restoring_locally,
    "s3": _saving_to_s3,
    "restore-s3": _restoring_from_s3,
    "peak": _peak,
    "readers": _reading_at_once,
}


def _s3_targets(match: _Match, store: str) -> tuple[dict[str, Any], dict[str, Any]]:
    environ = match.stores[store]
    url = f"s3://{BUCKET}/{store.replace(' ', '-')}"
    ours = {"url": f"{url}/ours", "environ": environ}
    theirs = {"url": f"{url}/theirs", "environ": environ, "folder": str(match.folder / f"theirs {store}")}
    return ours, theirs


def _quicker(work: str, against: str, figures: Figures, target: float) -> Row:
    facts = {"ours": figures.median("ours secs"), "theirs": figures.median("tensorflow secs")}
    return at_least(work, against, figures.ratio("tensorflow secs", "ours secs"), target, **facts)


def _our_command(mib: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.checkpoint_ours", str(mib)]


def _rows(arguments: argparse.Namespace) -> list[Row]:
    mib = str(arguments.mib)
    commands = {
        "ours": _our_command(arguments.mib),
        "tensorflow": [sys.executable, "-m", "benchmarks.checkpoint_tensorflow", mib],
    }
    if arguments.orbax:
        commands["orbax"] = [arguments.orbax, "-m", "benchmarks.checkpoint_orbax", mib]
    load = os.getloadavg()[0]
    note = {"note": f"load average {load:.1f} before the turns: disturbed"} if load > _IDLE_LOAD else {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.directory)))
        stores = {
            "null sink": stack.enter_context(null_s3()),
            "SeaweedFS": stack.enter_context(seaweedfs(folder)),
        }
        players = stack.enter_context(contenders(commands))
        match = _Match(players, folder, stores, max(arguments.rounds, 5), arguments.mib)
        works = [work for name, work in _WORKS.items() if arguments.only in {None, name}]
        return [{**row, **note} for work in works for row in work(match)]


def _table(rows: list[Row]) -> Table:
    table = Table("work", "against", "ours", "theirs", "result", "target", "")
    for row in rows:
        sign = ">=" if "ratio" in row else "<="
        result = f"{row.get('ratio', row.get('value'))} {row['unit']}"
        cells = [row["work"], row["against"], row.get("ours", ""), row.get("theirs", ""), result]
        table.add_row(*map(str, cells), f"{sign} {row['target']}", "met" if row["met"] else "missed")
    return table


def main() -> None:
    """Measures, and prints a table, or with --json a list of objects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    parser.add_argument("--mib", type=int, default=1024, help="size of the 64 variables together, in MiB")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (at least 5)")
    parser.add_argument("--orbax", help="Python interpreter with orbax-checkpoint==0.12.8 and jax")
    parser.add_argument("--directory", type=Path, help="on the disk to be measured (default: that of temporary files)")
    parser.add_argument("--only", choices=list(_WORKS), help="one kind of work")
    arguments = parser.parse_args()
    rows = _rows(arguments)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    Console().print(_table(rows))
    for note in sorted({str(row["note"]) for row in rows if "note" in row}):
        print(note)
    if arguments.orbax is None:
        print("Without --orbax: nothing was compared with Orbax.")


if __name__ == "__main__":
    main()
