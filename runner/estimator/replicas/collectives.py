"""Collectives: sums and broadcasts between the processes of a cluster, and the watch over its peers.

They run in TensorFlow's eager runtime, which the graphs of a training call into, and not in a session on a
tf.distribute.Server. Such a session refuses about one run in 45,000 by mistake ("The same RunGraph request was received
twice"): it draws each request id in a new thread, from a generator with a seed of 32 bits. With a collective in the run
there is no second try, since the peers are waiting in it already.
"""

import functools
import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import tensorflow_server_pb2
from tensorflow.python.eager import context

from runner.errors import PeerLostError

__all__ = ["Collectives"]

_GROUP_KEY = 1
_BROADCAST_KEY = 1_000
"""Instance keys of reductions are the numbers of their dtypes, far below: a key keeps to one kind and one dtype."""

_GATHER_KEY_BITS = 24
"""That of a gather also keeps to one length: it is the dtype's number above so many bits of the length."""

_SMALL_BYTES = 64 * 1024
"""Up to this size the time of a collective is that of its messages, of which a gather has half as many as a sum."""

_GATHERED = (tf.float32, tf.float64, tf.float16)
"""Of the dtypes of gradients those that CollectiveGather takes."""

_HEALTH_PERIOD_SECS = 5.0
_HEALTH_TIMEOUT_SECS = 30.0
"""A peer answers from threads of the runtime, so that it is silent only if it is gone, frozen, or cut off."""


class Collectives:
    """This process's end of the cluster; blocks in each call until all of the others make the same one.

    A peer that is gone ends the call that waits for it, and all later ones, with an error. Not thread-safe.

    Args:
        cluster: Addresses by task type, of the tasks that train; the first of them is the leader.
        task_type: This task's.
        task_id: This task's.

    Attributes:
        count: Number of tasks.
        index: This task's place among them.
    """

    def __init__(self, cluster: dict[str, list[str]], task_type: str, task_id: int) -> None:
        names = [f"/job:{job}/replica:0/task:{index}" for job, hosts in cluster.items() for index in range(len(hosts))]
        own_name = f"/job:{task_type}/replica:0/task:{task_id}"
        self.count = len(names)
        self.index = names.index(own_name)
        self._peers = [name for name in names if name != own_name]
        self._lost: Exception | None = None
        self._closing = threading.Event()
        _join(json.dumps(cluster), task_type, task_id, names[0])

    def connect(self, *, timeout_secs: float | None) -> None:
        """Waits until all tasks are there, and watches them from then on.

        Args:
            timeout_secs: How long to wait; None means for ever.

        Raises:
            PeerLostError: They were not, within that time.
        """
        timer = threading.Timer(
            timeout_secs or 0, self._abort, [f"the cluster was not complete after {timeout_secs} s"]
        )
        timer.daemon = True
        if timeout_secs is not None:
            timer.start()
        try:
            self.barrier()
        finally:
            timer.cancel()
        threading.Thread(target=self._watch, name="peers", daemon=True).start()

    def all_reduce_mean(self, flat: Any) -> Any:
        """The mean over the tasks of an eager tensor [n], which has the same length and dtype in all of them.

        Returns:
            An eager tensor or an array [n], the same in all tasks.

        Raises:
            PeerLostError: A peer is gone.
        """
        size = int(flat.shape[0])
        if size == 0:
            return flat
        if size * flat.dtype.size <= _SMALL_BYTES and flat.dtype in _GATHERED:
            # Each task adds up the same rows in the same order. Arrays, since an operation takes longer to call.
            return np.asarray(memoryview(self._gather(flat))).reshape(self.count, size).mean(axis=0)
        reduce = functools.partial(
            tf.raw_ops.CollectiveReduce, merge_op="Add", final_op="Div", subdiv_offsets=[0], input=flat
        )
        return self._call(reduce, int(flat.dtype.as_datatype_enum))

    def all_gather(self, payload: bytes, *, largest_bytes: int) -> list[memoryview]:
        """The payloads of all tasks, in the order of their indices.

        Args:
            payload: This task's.
            largest_bytes: The length of the largest, which all tasks know.

        Returns:
            Of each task, its payload and some zeros.

        Raises:
            PeerLostError: A peer is gone.
        """
        n_words = _capacity(-(-largest_bytes // 4))
        with context.eager_mode(), tf.device("/cpu:0"):
            words = tf.constant(np.frombuffer(payload.ljust(4 * n_words, b"\0"), np.int32))
            gathered = memoryview(self._gather(words)).cast("B")
        return [gathered[start : start + 4 * n_words] for start in range(0, len(gathered), 4 * n_words)]

    def broadcast(self, values: Sequence[int], *, is_sender: bool) -> list[int]:
        """The sender's values, in every task; all pass as many.

        Raises:
            PeerLostError: A peer is gone.
        """
        if is_sender:
            with context.eager_mode():
                send = functools.partial(tf.raw_ops.CollectiveBcastSend, input=tf.constant(values, tf.int64))
        else:
            send = functools.partial(tf.raw_ops.CollectiveBcastRecv, T=tf.int64)
        received = self._call(functools.partial(send, shape=[len(values)]), _BROADCAST_KEY)
        return [int(value) for value in received.numpy()]

    def barrier(self) -> None:
        """Returns once all tasks have come here.

        Raises:
            PeerLostError: A peer is gone.
        """
        with context.eager_mode():
            self.all_reduce_mean(tf.constant([1.0]))

    def close(self) -> None:
        """Ends the watch: from here on a peer may leave."""
        self._closing.set()

    def raise_if_lost(self) -> None:
        """Raises PeerLostError if a collective failed: what a session makes of that error says less."""
        if self._lost is not None:
            raise PeerLostError(
                f"Another task of the cluster is gone, or silent: {_reason(self._lost)}"
            ) from self._lost

    def _gather(self, flat: Any) -> Any:
        size = int(flat.shape[0])
        gather = functools.partial(tf.raw_ops.CollectiveGather, input=flat, shape=[self.count * size])
        return self._call(gather, (int(flat.dtype.as_datatype_enum) << _GATHER_KEY_BITS) + _length_key(size))

    def _call(self, operation: Any, instance_key: int) -> Any:
        # No `timeout_seconds`: TensorFlow keeps a thread for each such collective until that time has passed.
        try:
            with context.eager_mode(), tf.device("/cpu:0"):
                return operation(group_size=self.count, group_key=_GROUP_KEY, instance_key=instance_key)
        except tf.errors.OpError as error:
            self._lost = self._lost or error
        self.raise_if_lost()
        return None

    def _watch(self) -> None:
        # A dead peer resets the connections that are in use. One that is idle, or cut off, has to be asked.
        while not self._closing.wait(_HEALTH_PERIOD_SECS):
            for peer in self._peers:
                try:
                    context.context().check_collective_ops_peer_health(peer, int(_HEALTH_TIMEOUT_SECS * 1000))
                except tf.errors.OpError as error:
                    if not self._closing.is_set():
                        self._abort(f"{peer} does not answer: {error.message}")
                    return

    def _abort(self, message: str) -> None:
        self._lost = self._lost or tf.errors.UnavailableError(None, None, message)
        context.context().abort_collective_ops(tf.errors.UNAVAILABLE, message)


def _capacity(n_words: int) -> int:
    """Rounds up by less than a quarter, so that there are few lengths: TensorFlow keeps a record of each for ever."""
    unit = 1 << max(n_words.bit_length() - 3, 0)
    return -(-n_words // unit) * unit


def _length_key(size: int) -> int:
    """A number of _GATHER_KEY_BITS bits, another one for each length; long lengths are _capacity's."""
    half = 1 << (_GATHER_KEY_BITS - 1)
    return size if size < half else half + (size >> (_GATHER_KEY_BITS - 4))


def _reason(error: Exception) -> str:
    message = getattr(error, "message", str(error))
    return str(message).strip().splitlines()[0] if message else type(error).__name__


@functools.cache
def _join(cluster: str, task_type: str, task_id: int, leader: str) -> None:
    """Starts the server of this process; TensorFlow cannot stop one, so all trainings of one cluster share it."""
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    config.device_filters.append(f"/job:{task_type}/task:{task_id}")
    config.experimental.collective_group_leader = leader
    server = tensorflow_server_pb2.ServerDef(
        cluster=tf.train.ClusterSpec(json.loads(cluster)).as_cluster_def(),
        job_name=task_type,
        task_index=task_id,
        protocol="grpc",
        default_session_config=config,
    )
    # What tf.distribute.MultiWorkerMirroredStrategy does; there is no public way to do it without a strategy.
    context.context().enable_collective_ops(server)
