"""SIGKILL at any moment of a save: what is published stays whole, and is what `runner checkpoints` says it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from runner.checkpoint.listing import latest_checkpoint, step_of

_LONG = [pytest.mark.chaos, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("store", "rounds"),
    [("local", 10), ("s3", 3), pytest.param("local", 50, marks=_LONG), pytest.param("s3", 50, marks=_LONG)],
)
def test_a_killed_writer_leaves_a_published_checkpoint_and_no_damaged_one(
    request: pytest.FixtureRequest, tmp_path: Path, store: str, rounds: int
) -> None:
    url = request.getfixturevalue("s3_url") if store == "s3" else str(tmp_path / "model")
    command = [sys.executable, "-m", "tests.checkpoint.killed_writers", url, str(rounds), "7", str(tmp_path / "notes")]

    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    latest = latest_checkpoint(url)
    assert latest is not None
    assert (step_of(latest) or 0) > 1
