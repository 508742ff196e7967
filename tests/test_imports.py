"""What the control plane loads: never TensorFlow, whose import takes seconds and which does not survive a fork."""

import subprocess
import sys

import pytest

MODULES = [
    "runner",
    "runner.checkpoint.local_copy",
    "runner.checkpoint.selection",
    "runner.cli",
    "runner.cli.services",
    "runner.local",
    "workers.celery",
    "workers.slots",
]


@pytest.mark.parametrize("module", MODULES)
def test_the_control_plane_loads_no_tensorflow(module: str) -> None:
    source = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"

    loaded = subprocess.check_output([sys.executable, "-c", source], text=True).split()

    assert "runner" in loaded
    assert not {"tensorflow", "tf_keras", "keras"} & set(loaded)


def test_the_help_loads_neither_celery_nor_redis() -> None:
    source = "import sys, runner.cli; runner.cli.main(['--help'], standalone_mode=False); print(*sys.modules)"

    output = subprocess.check_output([sys.executable, "-c", source], text=True)

    assert "quickstart" in output
    loaded = output.splitlines()[-1].split()
    assert not {"celery", "redis", "rich", "pydantic", "tensorflow"} & set(loaded)


def test_the_package_shows_its_public_names() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "import runner; print(*dir(runner))"], capture_output=True, text=True, check=True
    ).stdout

    assert {"Client", "Job", "LocalStack"} <= set(shown.split())
