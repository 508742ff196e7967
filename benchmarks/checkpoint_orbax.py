"""Orbax's side of `benchmarks.checkpoint`; runs where orbax-checkpoint and jax are installed, and needs nothing else.

`python -m benchmarks.checkpoint_orbax MIB`
"""

import importlib
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.turns import Turns

__all__ = ["main"]

_ARRAYS = 64


def main() -> None:
    """Takes turns: how long an asynchronous save blocks, once the one before is done."""
    jax: Any = importlib.import_module("jax")
    orbax: Any = importlib.import_module("orbax.checkpoint")
    values = np.arange(int(sys.argv[1]) * (1 << 20) // _ARRAYS // 4, dtype=np.float32)
    state = {f"weights_{number}": jax.device_put(values + number) for number in range(_ARRAYS)}
    jax.block_until_ready(state)
    checkpointer = orbax.AsyncCheckpointer(orbax.StandardCheckpointHandler())
    turns = Turns()
    while (request := turns.next()) is not None:
        folder = Path(request["target"]["folder"])
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        checkpointer.save(folder, args=orbax.args.StandardSave(state))
        blocked = time.perf_counter() - start
        checkpointer.wait_until_finished()
        turns.report({"blocked_secs": blocked, "secs": time.perf_counter() - start})
    checkpointer.close()


if __name__ == "__main__":
    main()
