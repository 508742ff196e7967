"""A writing process is killed at every boundary of a save: what is restored is always what was published."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from runner.checkpoint.listing import latest_checkpoint, step_of, survey_checkpoints
from runner.checkpoint.reading import open_checkpoint
from runner.storage.urls import open_directory
from tests.checkpoint.stopped_writer import state_at

COMPLETED, KILLED = 0, -9

Save = Callable[..., int]


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.chaos)])  # a client of S3 takes its time
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "local":
        return str(request.getfixturevalue("tmp_path") / "model")
    return str(request.getfixturevalue("s3_url"))


@pytest.fixture
def save(url: str) -> Iterator[Save]:
    """Saves one step in a process of its own, which may end before a request; tells how it ended."""
    command = [sys.executable, "-m", "tests.checkpoint.stopped_writer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def save_one(step: int, at: int | None = None) -> int:
            stdin.write(json.dumps({"url": url, "step": step, "at": at}) + "\n")
            stdin.flush()
            code = int(stdout.readline())
            assert code in {COMPLETED, KILLED}
            return code

        yield save_one
        stdin.close()


def restored_step(url: str) -> int:
    """Restores the latest checkpoint: every byte of it is that of its step."""
    prefix = latest_checkpoint(url)
    assert prefix is not None
    step = step_of(prefix)
    assert step is not None
    values = open_checkpoint(prefix).read()
    expected = state_at(step)
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(values[name], value)
    return step


def check(url: str, *, before: int, step: int) -> int:
    """After a kill amid the save of a step: what is restored, and what is told of the checkpoints."""
    restored = restored_step(url)
    assert restored in {before, step}
    infos = {info.step: info for info in survey_checkpoints(url)}
    assert infos[restored].latest
    assert infos[restored].state == "complete"
    for info in infos.values():
        # One that has a name in `checkpoint` is whole; what is left of the others is called what it is.
        assert info.state in {"complete", "orphan"}
        if info.state == "complete":
            open_checkpoint(info.prefix).read()
    assert step not in infos or infos[step].state == ("complete" if restored == step else "orphan")
    return restored


def test_after_a_kill_at_any_boundary_the_published_step_is_restored(url: str, save: Save) -> None:
    assert save(1) == COMPLETED
    step, at, is_killed = 1, 1, True

    while is_killed:
        before, step = restored_step(url), step + 1
        is_killed = save(step, at=at) == KILLED
        restored = check(url, before=before, step=step)
        assert is_killed or restored == step
        at += 1

    assert at > 10  # claim, data, its parts, graph, commit, index, publish, and what is deleted then
    assert restored_step(url) == step
    assert save(step + 1) == COMPLETED
    kept = [info.step for info in survey_checkpoints(url) if info.state == "complete"]
    assert kept == [step, step + 1]
    parts = ("data-00000-of-00001", "index", "meta")
    names = {entry.name for entry in open_directory(url).list()}
    assert names == {"checkpoint", *(f"model.ckpt-{each}.{part}" for each in kept for part in parts)}
