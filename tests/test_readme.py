"""The README, followed to the letter."""

import re
import subprocess
import sys
from pathlib import Path

from runner.jobs.ignore import is_secret

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
TIMEOUT_SECS = 240


def test_the_example_trains(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "train.py").write_text(example)

    done = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_SECS, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("SUCCEEDED {'accuracy': ")
    assert (tmp_path / "models" / "mine" / "model.ckpt-500.index").exists()


def test_every_command_it_shows_exists() -> None:
    shown = set(re.findall(r"^runner (\w+)", README, re.MULTILINE)) | set(re.findall(r"`runner (\w+)", README))

    helped = subprocess.run(
        [sys.executable, "-m", "runner.cli", "--help"], capture_output=True, text=True, timeout=TIMEOUT_SECS, check=True
    )

    assert shown >= {"quickstart", "up", "submit"}
    assert shown <= set(re.findall(r"^  (\w+)  ", helped.stdout, re.MULTILINE))


def test_the_exit_codes_are_those_of_the_help() -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "runner", "--help"], capture_output=True, text=True, timeout=TIMEOUT_SECS, check=True
    ).stdout

    told, documented = (
        " ".join(text.partition("Exit codes: ")[2].partition(".")[0].split()) for text in (helped, README)
    )

    assert told == documented
    assert "130 interrupted" in told


def test_the_names_it_calls_secret_stay_out_of_snapshots() -> None:
    listed = README.partition("tells of a secret:")[2].partition("SSH keys")[0]
    patterns = re.findall(r"`([^`]+)`", listed)

    assert len(patterns) > 5
    assert [pattern for pattern in patterns if not is_secret(pattern.replace("*", "prod"))] == []
