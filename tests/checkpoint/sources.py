"""State to be saved that needs no TensorFlow."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from runner.checkpoint.bundle.layout import Tensor


class ArraySource:
    """A source of a CheckpointWriter.

    Args:
        values: Name -> array.
        before_read: Called before each read, by the threads that write.
    """

    def __init__(self, values: Mapping[str, Any], *, before_read: Callable[[], object] = lambda: None) -> None:
        self._values = {name: np.asarray(value) for name, value in values.items()}
        self._before_read = before_read
        self.tensors = [Tensor(name, value.dtype.name, value.shape) for name, value in self._values.items()]
        self.parents: list[Any] = []
        self.checksums: dict[str, int] = {}
        self.bundles: list[str] = []
        self.is_released = threading.Event()

    def read(self, tensor: Tensor, start: int, stop: int) -> memoryview:
        self._before_read()
        assert not self.is_released.is_set()
        return self._values[tensor.name].reshape(-1).view(np.uint8).data[start:stop]

    def release(self) -> None:
        self.is_released.set()
