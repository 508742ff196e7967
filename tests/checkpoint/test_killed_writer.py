"""A writing process is killed at every boundary, and at random: what is restored is always what was published."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from runner.checkpoint.listing import latest_checkpoint, step_of, survey_checkpoints
from runner.checkpoint.reading import open_checkpoint
from runner.storage.urls import is_local, open_directory
from tests.checkpoint.killed_writer import state_at
from tests.seaweed import SeaweedFS

COMPLETED, KILLED = 0, -9

Save = Callable[..., dict[str, Any]]


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "local":
        return str(request.getfixturevalue("tmp_path") / "model")
    return str(request.getfixturevalue("s3_url"))


@pytest.fixture(scope="module")
def save(s3: SeaweedFS) -> Iterator[Save]:
    """Saves one step in a process of its own, of which the result tells how it ended."""
    command = [sys.executable, "-m", "tests.checkpoint.killed_writer"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**_environ(), **s3.environ()}
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def save_one(
            url: str,
            step: int,
            *,
            at: int | None = None,
            kill_after_secs: float | None = None,
        ) -> dict[str, Any]:
            request = {"url": url, "step": step, "at": at, "kill_after_secs": kill_after_secs}
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            answer: dict[str, Any] = json.loads(stdout.readline())
            assert answer["code"] in {COMPLETED, KILLED}
            return answer

        yield save_one
        stdin.close()


def _environ() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(path for path in sys.path if path)}


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


def kill_at_boundaries(url: str, save: Save, *, every: int) -> None:
    assert save(url, 1)["code"] == COMPLETED
    step, at, is_killed = 1, 1, True

    while is_killed:
        before, step = restored_step(url), step + 1
        is_killed = save(url, step, at=at)["code"] == KILLED
        restored = check(url, before=before, step=step)
        assert is_killed or restored == step
        at += every

    assert at > 10  # claim, data, its parts, graph, commit, index, publish, and what is deleted then
    assert restored_step(url) == step
    assert save(url, step + 1)["code"] == COMPLETED
    kept = [info.step for info in survey_checkpoints(url) if info.state == "complete"]
    assert kept == [step, step + 1]
    parts = ("data-00000-of-00001", "index", "meta")
    names = {entry.name for entry in open_directory(url).list()}
    assert names == {"checkpoint", *(f"model.ckpt-{each}.{part}" for each in kept for part in parts)}


def test_after_a_kill_at_a_boundary_the_published_step_is_restored(url: str, save: Save) -> None:
    # On S3 a process takes a second to make its client.
    kill_at_boundaries(url, save, every=1 if is_local(url) else 5)


@pytest.mark.chaos
def test_after_a_kill_at_any_boundary_the_published_step_is_restored(url: str, save: Save) -> None:
    kill_at_boundaries(url, save, every=1)


def kill_at_random(url: str, save: Save, *, count: int) -> None:
    chance = random.Random(count)
    step = 1
    first = save(url, step)
    published = 1
    longest_secs = 1.2 * first["secs"]

    for _ in range(count):
        before, step = published, step + 1
        code = save(url, step, kill_after_secs=chance.uniform(0, longest_secs))["code"]
        published = check(url, before=before, step=step)
        assert code == KILLED or published == step

    assert save(url, step + 1)["code"] == COMPLETED
    assert restored_step(url) == step + 1


def test_after_a_kill_at_random_the_published_step_is_restored(url: str, save: Save) -> None:
    kill_at_random(url, save, count=4 if is_local(url) else 2)


@pytest.mark.chaos
def test_after_many_kills_at_random_the_published_step_is_restored(url: str, save: Save) -> None:
    kill_at_random(url, save, count=50)
