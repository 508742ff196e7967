"""Prepared runs: what a session is asked for again and again is looked up once, and run in the quicker of two ways."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

__all__ = ["PreparedRun", "PreparedRuns"]

_PREPARED_FROM = 20
"""Runs of the same fetches before they are prepared, which costs as much as some hundred small steps."""

_WARM_UP = 50
_TRIALS = 10
"""Runs in the pool before the other way is tried, and then of each of both."""


class PreparedRuns:
    """The runs of one session, prepared by what they fetch. Not thread-safe.

    Args:
        session: An open tf.compat.v1.Session.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._counts: dict[Any, int] = {}
        self._prepared: dict[Any, PreparedRun] = {}

    def run(self, fetches: Any) -> Any:
        """Runs one step without feeds and options.

        Args:
            fetches: As for tf.compat.v1.Session.run.

        Returns:
            The values, in the structure of `fetches`.
        """
        if (key := _key(fetches)) is None:
            return self._session.run(fetches)
        if (run := self._prepared.get(key)) is not None:
            return run.packed()
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] == _PREPARED_FROM:
            self._prepared[key] = PreparedRun(self._session, fetches)
        return self._session.run(fetches)


class PreparedRun:
    """One kind of run of a session. Not thread-safe.

    A run's operations go to the session's pool of threads, or one after the other through the thread that calls. Small
    ones take half the time in the caller, since no thread has to be woken; large ones may gain from the pool. Both are
    tried, and the quicker one is kept.

    Args:
        session: An open tf.compat.v1.Session.
        fetches: Tensors and operations, in lists, tuples and dicts.
        clock: Monotonic seconds.
    """

    def __init__(self, session: Any, fetches: Any, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._session = session
        self._clock = clock
        self._fetches = fetches
        leaves = {leaf.name: leaf for leaf in tf.nest.flatten(fetches)}
        self._targets = [name for name, leaf in leaves.items() if isinstance(leaf, tf.Operation)]
        self._tensors = [name for name in leaves if name not in self._targets]
        places = {name: index for index, name in enumerate(self._tensors)}
        self._places = [places.get(leaf.name) for leaf in tf.nest.flatten(fetches)]
        self._in_pool = self._callable(in_caller=False)
        self._in_caller: Callable[[], list[Any]] | None = None
        self._times: tuple[list[float], list[float]] = [], []
        self._chosen: Callable[[], list[Any]] | None = None
        self._count = 0

    @property
    def prefers_caller(self) -> bool:
        """Whether the calling thread has turned out to be the quicker one."""
        return self._chosen is not None and self._chosen is self._in_caller

    def packed(self) -> Any:
        """Runs, and returns the values in the structure of the fetches."""
        values = self()
        return tf.nest.pack_sequence_as(
            self._fetches, [None if place is None else values[place] for place in self._places]
        )

    def __call__(self) -> list[Any]:
        """Runs, and returns the values of the tensors among the fetches, in their order."""
        # Gives an error the place in the user's code where the operation was made, as Session.run does.
        values: list[Any] = self._session._do_call(self._chosen or self._try)  # noqa: SLF001
        return values

    def _try(self) -> list[Any]:
        self._count += 1
        if self._count <= _WARM_UP:
            return self._in_pool()
        if self._in_caller is None:
            self._in_caller = self._callable(in_caller=True)
            return self._in_caller()  # the first run of a callable takes longer
        is_in_caller = self._count % 2
        start = self._clock()
        values = (self._in_caller if is_in_caller else self._in_pool)()
        self._times[is_in_caller].append(self._clock() - start)
        if min(map(len, self._times)) == _TRIALS:
            in_pool, in_caller = map(median, self._times)
            self._chosen = self._in_caller if in_caller <= in_pool else self._in_pool
        return values

    def _callable(self, *, in_caller: bool) -> Callable[[], list[Any]]:
        options = config_pb2.CallableOptions(fetch=self._tensors, target=self._targets)
        if in_caller:
            options.run_options.inter_op_thread_pool = -1
        # The public make_callable looks its fetches up anew in every run, and takes no options.
        call: Callable[[], list[Any]] = self._session._make_callable_from_options(options)  # noqa: SLF001
        return call


def _key(fetches: Any) -> Any:
    """What tells fetches apart; None where they are of a kind that has to be taken apart for every run.

    Tensors and operations live as long as their graph, so that their identities are not used again.
    """
    if isinstance(fetches, (tf.Tensor, tf.Operation)):
        return id(fetches)
    if type(fetches) in (list, tuple):
        return _keys(type(fetches), fetches)
    if type(fetches) is dict and all(isinstance(name, str) for name in fetches):  # tf.nest sorts the names
        return _keys(tuple(fetches), fetches.values())
    return None


def _keys(kind: Any, fetches: Any) -> Any:
    keys = tuple(_key(fetch) for fetch in fetches)
    return None if None in keys else (kind, keys)
