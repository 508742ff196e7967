"""`runner quickstart` as a newcomer runs it: the real stack, TensorFlow and the real data."""

import contextlib
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until

Quickstart = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def quickstart(tmp_path: Path) -> Quickstart:
    """Runs the command in an empty directory, without a terminal."""

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
        command = [sys.executable, "-m", "runner.cli", "quickstart", *options]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    return run


def accuracy(stdout: str) -> float:
    return float(stdout.partition("Evaluation: accuracy ")[2].partition(",")[0])


def test_it_trains_a_good_model_and_goes_on_where_it_stopped(quickstart: Quickstart, tmp_path: Path) -> None:
    model_dir = tmp_path / "models" / "iris"

    first = quickstart()

    assert first.returncode == 0, first.stderr
    assert accuracy(first.stdout) >= 0.9
    assert "Trained to step 200." in first.stdout
    assert "model.ckpt-200.index" in first.stdout
    assert "--steps 400" in first.stdout
    assert 'model_checkpoint_path: "model.ckpt-200"\n' in (model_dir / "checkpoint").read_text()
    # Nothing was there to go on from: only the evaluation restores what was just saved.
    restored, saved = f"Restoring parameters from {model_dir}/model.ckpt-200", "Saving checkpoints for"
    assert first.stdout.index(f"{saved} 200") < first.stdout.index(restored)

    second = quickstart("--steps", "400", "--model-dir", str(model_dir))

    assert second.returncode == 0, second.stderr
    assert accuracy(second.stdout) >= 0.9
    assert "Trained to step 400." in second.stdout
    assert second.stdout.index(restored) < second.stdout.index(f"{saved} 400")
    assert 'model_checkpoint_path: "model.ckpt-400"\n' in (model_dir / "checkpoint").read_text()

    third = quickstart("--steps", "300", "--workers", "0")

    assert third.returncode == 0, third.stderr
    assert third.stdout.startswith(
        "models/iris is already at step 400; nothing to train. Use --steps 800 to go on.\n"
        "Starting Valkey, a coordinator and 1 slot ...\n"
    )
    assert accuracy(third.stdout) >= 0.9
    assert "At step 400." in third.stdout

    # What it is busy with is looked at once a second, so the shorter phases may be missed.
    assert "\nstarting TensorFlow\n" in first.stdout
    assert "\ndone: step 200/200" in first.stdout
    assert not re.search(r"^(startup|first_step|train|eval)\b", first.stdout, re.MULTILINE)

    for result in (first, second, third):
        # Our lines only: no control codes, and nothing of what TensorFlow prints while it starts.
        assert "\x1b" not in result.stdout
        assert result.stderr == ""
        assert "tensorflow" not in result.stdout.lower().replace("starting tensorflow", "")


def test_a_failure_is_told_with_the_end_of_the_log(quickstart: Quickstart, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"\n')

    result = quickstart("--model-dir", ".", "--workers", "0")

    assert result.returncode == 1
    assert "chief:0 | runner.errors.CheckpointError: No checkpoint in " in result.stderr
    assert "\nError: Job quickstart-" in result.stderr


def test_a_model_dir_that_cannot_be_written_is_bad_input(quickstart: Quickstart, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = quickstart("--model-dir", "file/below")

    assert result.returncode == 2
    assert "file/below" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""  # nothing was started


def test_a_service_that_ends_in_mid_run_is_told_instead_of_waited_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runner.cli", "quickstart"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line.startswith("Job quickstart-") for line in process.stdout)
        (coordinator,) = [
            each for each in psutil.Process(process.pid).children() if each.cmdline()[-1] == "coordinator"
        ]

        coordinator.kill()
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "The coordinator ended by itself" in stderr


class Terminal:
    """A quickstart at a terminal of its own, on which somebody presses Ctrl-C."""

    def __init__(self, cwd: Path) -> None:
        self.shown = ""
        self.master, terminal = pty.openpty()
        command = [sys.executable, "-m", "runner", "quickstart"]
        # The new session takes the first terminal that it opens for its own: the one that sends the signals.
        login = [
            sys.executable,
            "-c",
            f"import os, sys; os.open({os.ttyname(terminal)!r}, os.O_RDWR); {_EXEC}",
            *command,
        ]
        self.process = subprocess.Popen(
            login, cwd=cwd, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
        )
        os.close(terminal)

    def read_until(self, text: str) -> None:
        while text not in self.shown:
            self.shown += os.read(self.master, 65536).decode()

    def press_ctrl_c(self) -> list[str]:
        """The lines that are shown after it."""
        before = len(self.shown)
        os.write(self.master, b"\x03")
        with contextlib.suppress(OSError):  # Linux ends a terminal that nobody has open any more in this way
            while chunk := os.read(self.master, 65536):
                self.shown += chunk.decode()
        text = re.sub(r"\x1b\[[\d?]*[A-Za-z]", "", self.shown[before:])
        return [line.strip() for line in text.splitlines() if line.strip(" ^C")]


_EXEC = "os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.master)


@pytest.mark.parametrize("moment", ["Starting Valkey", "Job quickstart-"])
def test_ctrl_c_before_the_first_save_says_that_nothing_is_left(terminal: Terminal, moment: str) -> None:
    terminal.read_until(moment)

    shown = terminal.press_ctrl_c()

    assert shown[-1] == "Stopped; no checkpoint in models/iris yet."
    assert not any("Error" in line or "Traceback" in line for line in shown)


def test_ctrl_c_after_a_save_says_what_is_left(terminal: Terminal, tmp_path: Path) -> None:
    terminal.read_until("Saving checkpoints for 0")
    wait_until((tmp_path / "models" / "iris" / "checkpoint").exists)  # that line comes before the save

    shown = terminal.press_ctrl_c()

    # It may have trained to the end meanwhile.
    left = r"Stopped; latest checkpoint in models/iris: step (0|200)\. Run it again to go on from there."
    assert re.fullmatch(left, shown[-1])
    assert not any("Error" in line or "Traceback" in line for line in shown)
    assert terminal.process.wait(60) == 130


def test_the_bar_reaches_its_end(terminal: Terminal) -> None:
    terminal.read_until("What to try next")

    shown = re.sub(r"\x1b\[[\d?;]*[A-Za-z]", "", terminal.shown)
    assert re.search(r"done +━+ step 200/200", shown)
    assert "━╸" not in shown.rpartition("done")[2]
