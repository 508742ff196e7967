"""How contenders take turns: each is a process that waits for its turn, does it, and tells how long it took."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["Contender", "Turns", "contenders", "serve"]


class Turns:
    """The contender's end: a request a line on standard input, an answer a line on the output, both in JSON."""

    def __init__(self) -> None:
        self._output = sys.stdout
        sys.stdout = sys.stderr  # what TensorFlow prints is no time

    def next(self) -> Any:
        """Waits for the next turn, and returns what is asked for, such as a number of steps; None if there is none."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def report(self, answer: Any) -> None:
        """Ends the turn."""
        print(json.dumps(answer), file=self._output, flush=True)


def serve(run: Callable[[int], Any]) -> None:
    """Takes turns until there are none left: a quarter of the steps to warm up, then all of them on the clock.

    Args:
        run: Runs that many steps.
    """
    turns = Turns()
    while (steps := turns.next()) is not None:
        run(steps // 4)
        start = time.perf_counter()
        run(steps)
        turns.report(time.perf_counter() - start)


class Contender:
    """The judge's end of a contender.

    Attributes:
        process: The contender.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def turn(self, steps: int) -> float:
        """Lets it do its turn, and returns the time in seconds.

        Raises:
            RuntimeError: It is gone.
        """
        return float(self.ask(steps))

    def ask(self, request: Any) -> Any:
        """Lets it do what is asked for, and returns its answer.

        Raises:
            RuntimeError: It is gone.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(request)}\n")
        self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"The contender {self.process.args!r} ended; what it wrote is above.")
        return json.loads(line)


@contextlib.contextmanager
def contenders(commands: dict[str, list[str]]) -> Iterator[dict[str, Contender]]:
    """Starts one process for each command; all have ended when the block is left."""
    with contextlib.ExitStack() as stack:
        started = {}
        for name, command in commands.items():
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
            )
            stack.callback(_end, process)
            started[name] = Contender(process)
        yield started


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()  # the end of the turns
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        process.stdout.close()
