"""The real tf.estimator as a process that answers commands."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.estimator.oracle.venv import oracle_python

ROOT = Path(__file__).parents[3]


class Oracle:
    """The real tf.estimator in an interpreter of its own.

    Args:
        process: Runs tests.estimator.oracle.server.
        log: What it writes to stderr.
    """

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log

    def __call__(self, do: str, model_dir: Path, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, "model_dir": str(model_dir), **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the real tf.estimator failed:\n{self._log.read_text()[-4000:]}"
        return json.loads(answer)


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    """The real tf.estimator."""
    log = tmp_path_factory.mktemp("oracle") / "log"
    command = [str(oracle_python()), "-m", "tests.estimator.oracle.server"]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    with process:
        yield Oracle(process, log)
        process.kill()
