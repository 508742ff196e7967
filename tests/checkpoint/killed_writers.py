"""A program that lets one writer of checkpoints after the other be killed, and looks at what each leaves behind.

    python -m tests.checkpoint.killed_writers MODEL_DIR ROUNDS SEED NOTES

A writer saves a step after the last one that it finds, and so on, until SIGKILL comes. What is then looked at:

- the checkpoint that a restart would restore is sound, and not older than the one that was there before
- `runner checkpoints --verify` calls every published checkpoint complete, and they are

Every round is two forks of this process, which itself talks to no store: clients of S3 do not survive a fork.
"""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from runner.checkpoint.bundle.reader import BundleReader
from runner.checkpoint.fence import Fence
from runner.checkpoint.listing import latest_checkpoint, step_of, survey_checkpoints
from runner.checkpoint.retention import Retention
from runner.checkpoint.state import STATE_FILE, parse_state
from runner.checkpoint.writer import CheckpointWriter
from runner.cli import main
from runner.storage.local_directory import LocalDirectory
from runner.storage.urls import open_directory, split_prefix
from tests.checkpoint.sources import ArraySource

_SHAPES = {"kernel": (300, 500), "bias": (500,), "scalar": ()}
_LONGEST_SECS = {True: 1.5, False: 0.15}  # on S3, on a local disk


def is_remote(url: str) -> bool:
    """Whether it is a URL."""
    return "://" in url


def write_until_killed(url: str, generation: int) -> None:
    """What a chief does: claims the model_dir, and saves what follows the checkpoint that it finds."""
    # What a killed process wrote is not lost, as by a power failure: there is no need to wait for the disk.
    directory = open_directory(url) if is_remote(url) else LocalDirectory(url, durable=False)
    fence = Fence(directory, owner="job-a", generation=generation, retention=Retention(2))
    state = fence.raise_()
    step = (step_of(state.latest) or 0) if state and state.latest else 0
    writer = CheckpointWriter(directory, fence)
    while True:
        step += 1
        values = {name: np.full(shape, step, np.float32) for name, shape in _SHAPES.items()}
        writer.start(ArraySource(values), step=step, graph=b"graph" * 1000)
        writer.wait()
        for outcome in writer.outcomes():
            if outcome.error:
                raise outcome.error


def look_at(url: str, notes: Path) -> None:
    """Fails unless what a killed writer left is as it must be."""
    latest = latest_checkpoint(url)
    step = 0 if latest is None else step_of(latest) or 0
    seen = int(notes.read_text()) if notes.exists() else 0
    assert step >= seen, f"restored would be step {step}, and {seen} was published"
    notes.write_text(str(step))
    if latest is not None:
        folder, basename = split_prefix(latest)
        read = BundleReader(open_directory(folder), basename).read()
        assert {name: array.shape for name, array in read.items()} == _SHAPES
        assert all((array == step).all() for array in read.values()), f"{latest} has the weights of another step"
    result = CliRunner().invoke(main, ["checkpoints", url, "--verify"])
    assert result.exit_code == 0, result.output
    infos = survey_checkpoints(url)
    assert "damaged" not in {info.state for info in infos}, infos
    # Whoever was killed before the first publish ever may have left a whole checkpoint that nothing names yet.
    directory = open_directory(url)
    is_published = bool(directory.stat(STATE_FILE) and parse_state(directory.read_bytes(STATE_FILE)).latest)
    assert [info.step for info in infos if info.latest] == [step] * is_published


def in_a_fork(act: Callable[[], None]) -> int:
    """Does something in a process of its own, and returns the id of that."""
    if process_id := os.fork():
        return process_id
    try:
        act()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def run(url: str, *, rounds: int, seed: int, notes: Path) -> None:
    """Kills writers and looks at what they left, so often."""
    chance = random.Random(seed)
    if is_remote(url):  # takes a second, and makes no client
        import_module("runner.storage.s3_directory")
        import_module("s3fs")
    else:
        Path(url).mkdir()
    for generation in range(1, rounds + 1):
        writer = in_a_fork(lambda generation=generation: write_until_killed(url, generation))  # type: ignore[misc]
        time.sleep(chance.uniform(0, _LONGEST_SECS[is_remote(url)]))
        os.kill(writer, signal.SIGKILL)
        _, status = os.waitpid(writer, 0)
        assert os.WIFSIGNALED(status), f"the writer of round {generation} ended by itself"
        _, status = os.waitpid(in_a_fork(lambda: look_at(url, notes)), 0)
        assert status == 0, f"what the writer of round {generation} left is not as it must be"


if __name__ == "__main__":
    run(sys.argv[1], rounds=int(sys.argv[2]), seed=int(sys.argv[3]), notes=Path(sys.argv[4]))
