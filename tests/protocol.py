"""Small programs that speak the protocol of `workers.messages`: training processes that need no TensorFlow."""

import sys
import textwrap
from pathlib import Path

import psutil

__all__ = ["is_running", "program"]

_PRELUDE = """
import json, os, signal, subprocess, sys, threading

reports = os.fdopen(int(os.environ["RUNNER_REPORT_FD"]), "w", buffering=1)
sealed = threading.Event()
forever = threading.Event()


def report(**fields):
    reports.write(json.dumps(fields) + "\\n")


def end(kind, message=""):
    report(outcome={"kind": kind, "message": message})
    os._exit(0)


def listen():
    global cluster
    for line in sys.stdin:
        cluster = json.loads(line)["addresses"]
        sealed.set()
    os.killpg(0, signal.SIGKILL)  # the supervisor is gone


task = json.loads(sys.stdin.readline())
threading.Thread(target=listen, daemon=True).start()
"""


def program(directory: Path, body: str) -> list[str]:
    """The command of a training process that reads its task and then does what `body` says.

    The body may use `task`, `sealed`, `cluster`, `forever`, `report(progress=...)` and `end(kind, message)`.
    """
    path = directory / "trainer.py"
    path.write_text(_PRELUDE + textwrap.dedent(body))
    return [sys.executable, "-P", str(path)]


def is_running(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody reaps does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
