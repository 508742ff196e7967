"""What TensorBoard shows of a directory, from a process that has TensorBoard without TensorFlow, as for URLs it must.

    python -m tests.estimator.tensorboard LOGDIR TAG

Reads a line for each look, and writes one: the scalars of that tag as JSON, [[step, value], ...].
"""

import json
import sys
from types import ModuleType

if __name__ == "__main__":
    # TensorBoard's own switch: where it can import this, it does without TensorFlow though that is installed.
    sys.modules["tensorboard.compat.notf"] = ModuleType("tensorboard.compat.notf")
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    logdir, tag = sys.argv[1:]
    multiplexer = EventMultiplexer()
    for _ in sys.stdin:
        multiplexer.AddRunsFromDirectory(logdir)
        multiplexer.Reload()
        has_tag = tag in multiplexer.Runs().get(".", {}).get("scalars", ())
        scalars = multiplexer.Scalars(".", tag) if has_tag else []
        print(json.dumps([[event.step, event.value] for event in scalars]), flush=True)  # noqa: T201 - its answer
    assert "tensorflow" not in sys.modules
