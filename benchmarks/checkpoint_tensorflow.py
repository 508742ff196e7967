"""TensorFlow's side of `benchmarks.checkpoint`: tf.train.Checkpoint, and s3fs to and from a store.

`python -m benchmarks.checkpoint_tensorflow MIB`
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import s3fs
import tensorflow as tf

from benchmarks.checkpoint_usage import flushed, used
from benchmarks.turns import Turns

__all__ = ["main"]

_VARIABLES = 64


class _Model:
    """64 variables in a tf.train.Checkpoint.

    Args:
        mib: Of all variables together.
    """

    def __init__(self, mib: int) -> None:
        values = np.arange(mib * (1 << 20) // _VARIABLES // 4, dtype=np.float32)
        variables = {f"weights_{number}": tf.Variable(values) for number in range(_VARIABLES)}
        self._checkpoint = tf.train.Checkpoint(**variables)
        self._asynchronous = tf.train.Checkpoint(**variables)
        self._stores: dict[str, s3fs.S3FileSystem] = {}

    def save(self, target: dict[str, Any]) -> dict[str, float]:
        """Checkpoint.write, then fsync for a durable one, or put_file to a store."""
        folder = Path(target["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        store = self._store(target)

        def work() -> None:
            self._checkpoint.write(str(folder / "model"))
            if target.get("durable"):
                flushed(folder)
            if store is not None:
                for path in sorted(folder.iterdir()):
                    store.put_file(str(path), f"{target['url']}/{path.name}")

        return used(work)

    def restore(self, target: dict[str, Any]) -> dict[str, float]:
        """Checkpoint.read, of a store after get_file."""
        folder = Path(target["folder"])
        store = self._store(target)
        names = sorted(path.name for path in folder.iterdir())

        def work() -> None:
            if store is not None:
                for name in names:
                    store.get_file(f"{target['url']}/{name}", str(folder / name))
            self._checkpoint.read(str(folder / "model")).assert_consumed()

        return used(work)

    def blocked(self, target: dict[str, Any]) -> dict[str, float]:
        """How long Checkpoint.write takes with enable_async, once the one before is done."""
        folder = Path(target["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        options = tf.train.CheckpointOptions(enable_async=True)
        start = time.perf_counter()
        self._asynchronous.write(str(folder / "async"), options)
        blocked = time.perf_counter() - start
        self._asynchronous.sync()
        return {"blocked_secs": blocked}

    def _store(self, target: dict[str, Any]) -> s3fs.S3FileSystem | None:
        """With its default settings but for where it is."""
        if (environ := target.get("environ")) is None:
            return None
        if (url := environ["AWS_ENDPOINT_URL_S3"]) not in self._stores:
            self._stores[url] = s3fs.S3FileSystem(
                key=environ["AWS_ACCESS_KEY_ID"], secret=environ["AWS_SECRET_ACCESS_KEY"], endpoint_url=url
            )
        return self._stores[url]


def main() -> None:
    """Takes turns; each request names what to do, and where."""
    model = _Model(int(sys.argv[1]))
    work = {"save": model.save, "restore": model.restore, "blocked": model.blocked}
    turns = Turns()
    while (request := turns.next()) is not None:
        turns.report(work[request["do"]](request["target"]))


if __name__ == "__main__":
    main()
