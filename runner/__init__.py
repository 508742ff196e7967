"""Distributed TensorFlow training on Celery, Redis and one model_dir, with the Estimator API.

`import runner` loads no TensorFlow; `from runner import estimator` does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.client import Client, Job
    from runner.local import LocalStack

__all__ = ["Client", "Job", "LocalStack"]

_HOMES = {"Client": "runner.client", "Job": "runner.client", "LocalStack": "runner.local"}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # A training process imports `runner.estimator` only and need not pay for the client.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'runner' has no attribute {name!r}")
