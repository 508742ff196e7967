"""Buffers: the values of tensors as arrays of this process, without a copy, also out of a session on a server."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

__all__ = ["Buffers", "make_callable"]


class Buffers:
    """Values of tensors, handed to Python by an operation of the graph.

    A session on a tf.distribute.Server copies what is fetched from it, several times over. An operation that calls
    Python gets the buffers themselves, since the server is in this process. Adds it to the default graph.

    Args:
        tensors: By name; on devices whose memory is that of the process.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._names = list(tensors)
        self._values: tuple[Any, ...] = ()
        with tf.device("/device:CPU:0"):
            self._op = tf.numpy_function(self._receive, list(tensors.values()), tf.bool).op

    def prepare(self, session: Any) -> None:
        """Makes the session ready, so that nothing of the graph is looked at while the training goes on."""
        self._run = make_callable(session, targets=[self._op])

    def take(self) -> dict[str, np.ndarray]:
        """The values as they are now. Whoever updates a variable copies it first, as long as its array is there."""
        self._run()
        values, self._values = self._values, ()
        return dict(zip(self._names, values, strict=True))

    def _receive(self, *values: Any) -> Any:
        self._values = values
        return np.True_


def make_callable(
    session: Any, *, feeds: Sequence[Any] = (), fetches: Sequence[Any] = (), targets: Sequence[Any] = ()
) -> Callable[..., Any]:
    """A prepared run of a session, which any thread may call, with the values of the feeds as arguments."""
    options = config_pb2.CallableOptions(
        feed=[each.name for each in feeds],
        fetch=[each.name for each in fetches],
        target=[each.name for each in targets],
    )
    options.run_options.inter_op_thread_pool = -1  # in the thread that calls: the pool belongs to the training
    # The public make_callable takes no options, and looks its fetches up anew in every run.
    call: Callable[..., Any] = session._make_callable_from_options(options)  # noqa: SLF001
    return call
