"""The interpreter that has the real tf.estimator: one that exists, or a virtual environment built on demand."""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REQUIREMENTS = ("tensorflow-cpu==2.15.1", "numpy<2")
PYTHONS = ("python3.11", "python3.10", "python3.9")
"""That TensorFlow 2.15 has wheels for."""

VARIABLE = "ORACLE_PYTHON"
"""Environment variable with the path of an interpreter that has the requirements; then nothing is built."""


def oracle_python() -> Path:
    """The interpreter; the first call on a machine installs it, which downloads some 300 MB and takes minutes."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "estimator-runner"
    venv, complete = root / "tf215", root / "tf215.complete"
    with _locked(root / "tf215.lock"):
        if not complete.exists():
            shutil.rmtree(venv, ignore_errors=True)  # of a build that was interrupted
            subprocess.run([_base_python(), "-m", "venv", str(venv)], check=True)
            subprocess.run([venv / "bin" / "python", "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
            complete.touch()
    return venv / "bin" / "python"


def _base_python() -> str:
    if f"python{'.'.join(platform.python_version_tuple()[:2])}" in PYTHONS:
        return sys.executable
    for name in PYTHONS:
        if found := shutil.which(name):
            return found
    raise RuntimeError(f"TensorFlow 2.15 needs one of {PYTHONS}: install it, or set {VARIABLE}.")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two runs of the tests do not build at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
