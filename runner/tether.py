"""Ties a child process to its parent's life: `python -m runner.tether <parent pid> <command> [argument ...]`.

On Linux the command is killed as soon as the parent's *thread that started it* ends (prctl PR_SET_PDEATHSIG), so it is
to be started by a thread that lives as long as it should. On other systems the command just runs.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["tethered"]

_PR_SET_PDEATHSIG = 1


def tethered(command: Sequence[str]) -> list[str]:
    """The command that runs `command` with its life tied to this process."""
    # -P keeps files of the working directory from shadowing what the tether imports.
    return [sys.executable, "-P", "-m", "runner.tether", str(os.getpid()), *command]


def _tie(parent_pid: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # A parent that ended before the prctl sends no signal any more; by now we have another one.
    if os.getppid() != parent_pid:
        sys.exit(f"The parent {parent_pid} has ended.")


if __name__ == "__main__":
    _tie(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
