"""Tasks of a cluster as real processes, each under its TF_CONFIG."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

TIMEOUT_SECS = 120


class Task:
    """One started task; its output is collected in a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log

    def wait(self) -> int:
        return self.process.wait(TIMEOUT_SECS)

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def losses(self) -> dict[int, float]:
        """Logged losses by step."""
        lines = (line.split() for line in self.output.splitlines() if line.startswith("INFO:tensorflow:loss = "))
        return {int(words[5]): float(words[2].rstrip(",")) for words in lines}


def start(
    stack: ExitStack, mode: str, model_dir: Path | str, *, workers: int, logs: Path, **extra: Any
) -> dict[str, Task]:
    """Starts the chief and the workers; they are killed, if need be, when the stack closes.

    Args:
        stack: Owns the processes.
        mode: Name of a function of `runs`.
        model_dir: Shared by all: a path or a URL.
        workers: Number of workers; 0 means one process without TF_CONFIG.
        logs: Where the outputs go.
        extra: Arguments of the run, by task ("chief:0") or for all ("all").
    """
    if not workers:
        return {"chief:0": _start(stack, mode, model_dir, {}, logs, extra.get("chief:0", extra.get("all")), "chief:0")}
    names = ["chief:0", *(f"worker:{index}" for index in range(workers))]
    return start_cluster(stack, mode, model_dir, *names, logs=logs, **extra)


def start_cluster(
    stack: ExitStack, mode: str, model_dir: Path | str, *names: str, logs: Path, **extra: Any
) -> dict[str, Task]:
    """Starts tasks of any types.

    Args:
        stack: See `start`, as for the others.
        mode: See there.
        model_dir: See there.
        names: The tasks, each "<task type>:<index>", those of one type in order.
        logs: See there.
        extra: See there.
    """
    cluster: dict[str, list[str]] = {}
    with ExitStack() as held:
        for name in names:
            if name != "evaluator:0":  # it is not in the cluster
                each = held.enter_context(socket.socket())
                each.bind(("127.0.0.1", 0))
                cluster.setdefault(name.partition(":")[0], []).append(f"127.0.0.1:{each.getsockname()[1]}")
    tasks = {}
    for name in names:
        task_type, _, index = name.partition(":")
        config = {"cluster": cluster, "task": {"type": task_type, "index": int(index)}}
        tasks[name] = _start(stack, mode, model_dir, config, logs, extra.get(name, extra.get("all")), name)
    return tasks


def outputs(tasks: dict[str, Task]) -> str:
    """What the tasks printed, for the message of an assertion."""
    return "\n".join(f"== {name}\n{task.output}" for name, task in tasks.items())


def _start(
    stack: ExitStack, mode: str, model_dir: Path | str, config: dict[str, Any], logs: Path, argument: Any, name: str
) -> Task:
    log = logs / f"{Path(model_dir).name}-{name.replace(':', '-')}.log"
    environ = {**os.environ, "TF_CONFIG": json.dumps(config), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "tests.estimator.runs", mode, str(model_dir), json.dumps(argument)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=subprocess.STDOUT)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return Task(process, log)
