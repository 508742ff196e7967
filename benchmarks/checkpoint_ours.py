"""Our side of `benchmarks.checkpoint`: a session with variables that is saved, trained meanwhile, and restored.

`python -m benchmarks.checkpoint_ours MIB`
"""

import os
import shutil
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.checkpoint_usage import peak_bytes, used
from benchmarks.turns import Turns
from runner.checkpoint.fence import Fence
from runner.checkpoint.restoring import Restorer
from runner.checkpoint.retention import Retention
from runner.checkpoint.snapshot import Snapshots
from runner.checkpoint.writer import CheckpointWriter
from runner.storage.directory import Directory
from runner.storage.local_directory import LocalDirectory
from runner.storage.urls import is_local, join, open_directory

__all__ = ["main"]

_VARIABLES = 64
_STEPS = 5

_v1 = tf.compat.v1


class _Training:
    """A graph of 64 variables and an update of them all, in a session.

    Args:
        mib: Of all variables together.
    """

    def __init__(self, mib: int) -> None:
        _v1.disable_eager_execution()
        size = mib * (1 << 20) // _VARIABLES // 4
        values = np.arange(size, dtype=np.float32)
        self.bytes = _VARIABLES * values.nbytes
        placeholder = _v1.placeholder(tf.float32, [size])
        variables = [
            _v1.get_variable(f"weights_{number}", initializer=placeholder, use_resource=True)
            for number in range(_VARIABLES)
        ]
        gradient = _v1.get_variable("gradient", initializer=placeholder, use_resource=True, trainable=False)
        update = tf.group(
            *(
                tf.raw_ops.ResourceApplyGradientDescent(var=each.handle, alpha=0.001, delta=gradient.read_value())
                for each in variables
            )
        )
        self.saver = _v1.train.Saver(variables, sharded=True, max_to_keep=1)
        self.restorer = Restorer(self.saver)
        self.session = _v1.Session()
        self.session.run(_v1.global_variables_initializer(), {placeholder: values})
        self.snapshots = Snapshots(self.saver, self.session)
        self._sources = [np.copy(values) for _ in range(_VARIABLES)]
        self._copies = [np.copy(values) for _ in range(_VARIABLES)]
        self.train_step = self.session.make_callable(update)
        self._writers: dict[str, CheckpointWriter] = {}
        self._step = 0
        self._peak_before: int | None = None

    def save(self, target: dict[str, Any]) -> dict[str, float]:
        """From the call to the published checkpoint; `blocked_secs` is what the training waits."""
        writer = self._writer(target)
        answer: dict[str, float] = {}

        def work() -> None:
            start = time.perf_counter()
            self._begin(writer)
            answer["blocked_secs"] = time.perf_counter() - start
            writer.wait()

        answer |= used(work)
        _raise_errors(writer)
        return answer

    def restore(self, target: dict[str, Any]) -> dict[str, float]:
        """From the last save there to the variables of the session."""
        os.environ.update(target.get("environ", {}))
        prefix = join(target["url"], f"model.ckpt-{target['step']}")
        return used(lambda: self.restorer.assign(self.session, self.restorer.load(prefix, training=False)))

    def stall(self, target: dict[str, Any]) -> dict[str, float]:
        """How much longer a step takes for the save before it, and one copy of as many bytes into warm memory."""
        writer = self._writer(target)
        alone = median(self._timed_step() for _ in range(_STEPS))
        start = time.perf_counter()
        self._begin(writer)
        blocked = time.perf_counter() - start
        step = self._timed_step()
        writer.wait()
        _raise_errors(writer)
        copying = time.perf_counter()
        for source, copy in zip(self._sources, self._copies, strict=True):
            np.copyto(copy, source)
        memcpy = time.perf_counter() - copying
        return {"blocked_secs": blocked, "stalled_secs": blocked + step - alone, "memcpy_secs": memcpy}

    def peak(self, target: dict[str, Any]) -> dict[str, float]:
        """Memory of a training that saves beyond that of one that never did, and beyond the copies of its update."""
        if self._peak_before is None:
            if self._step:
                raise ValueError("Memory is only told apart in a process that has not saved yet: it may keep some.")
            self._peak_before = peak_bytes(lambda: [self.train_step() for _ in range(_STEPS)])
        writer = self._writer(target)

        def train_while_saving() -> None:
            self._begin(writer)
            while writer.is_saving:
                self.train_step()

        during = peak_bytes(train_while_saving)
        _raise_errors(writer)
        return {"extra_bytes": during - self._peak_before - self.bytes}

    def _writer(self, target: dict[str, Any]) -> CheckpointWriter:
        key = f"{target['url']} {target.get('durable', True)}"
        if key not in self._writers:
            os.environ.update(target.get("environ", {}))
            directory = _open(target)
            fence = Fence(directory, owner="benchmark", retention=Retention(1))
            fence.raise_()
            self._writers[key] = CheckpointWriter(directory, fence)
        return self._writers[key]

    def _begin(self, writer: CheckpointWriter) -> None:
        self._step += 1
        writer.start(self.snapshots.take(self._step), step=self._step)

    def _timed_step(self) -> float:
        start = time.perf_counter()
        self.train_step()
        return time.perf_counter() - start

    @property
    def step(self) -> int:
        """Of the last save."""
        return self._step


def _open(target: dict[str, Any]) -> Directory:
    if not is_local(target["url"]):
        return open_directory(target["url"])
    shutil.rmtree(target["url"], ignore_errors=True)
    Path(target["url"]).mkdir(parents=True)
    return LocalDirectory(target["url"], durable=target.get("durable", True))


def _raise_errors(writer: CheckpointWriter) -> None:
    for outcome in writer.outcomes():
        if outcome.error is not None:
            raise outcome.error


def main() -> None:
    """Takes turns; each request names what to do, and where."""
    training = _Training(int(sys.argv[1]))
    work = {"save": training.save, "restore": training.restore, "stall": training.stall, "peak": training.peak}
    turns = Turns()
    while (request := turns.next()) is not None:
        answer = work[request["do"]](request["target"])
        turns.report({**answer, "step": training.step})


if __name__ == "__main__":
    main()
