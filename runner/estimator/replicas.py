"""The replicas of a training: this process alone, or the chief and the workers of a cluster, in lock-step."""

import functools
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import tensorflow as tf

from runner.checkpoint.compatibility import TensorSpecs
from runner.checkpoint.listing import step_of
from runner.errors import PeerLostError
from runner.estimator.averaging import GradientAverager
from runner.estimator.run_config import RunConfig

__all__ = ["ClusterReplicas", "Replicas", "SingleReplica", "replicas_of"]

_v1 = tf.compat.v1

_GROUP_KEY = 1
_CONTROL_KEY = 1_000_000_000
"""Instance keys of the collectives outside of training; those of a training graph count from 1."""
_TIMEOUT_SECS = 600.0
"""How long a peer may keep the others waiting: it may be saving or evaluating.

It bounds the runs of sessions, not each collective: TensorFlow keeps a thread for the `timeout_seconds` of every
collective until they have passed, so that a long training would run out of threads.
"""
_PEER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class Replicas(Protocol):
    """What a training run needs to know of the processes it runs in.

    Attributes:
        is_chief: Whether this process writes.
        count: Number of replicas.
        master: Target for sessions.
        session_config: tf.compat.v1.ConfigProto for sessions.
        timeout_secs: Longest time for one run of a session; None means no limit.
        data_seed: Graph seed while the input is built, the same in all replicas; None leaves it unset.
        model_seed: Graph seed while the model is built, another one in each replica; None leaves it unset.
    """

    is_chief: bool
    count: int
    master: str
    session_config: Any
    timeout_secs: float | None
    data_seed: int | None
    model_seed: int | None

    def input_context(self) -> tf.distribute.InputContext:
        """What an input_fn needs to shard its data itself."""

    def shard(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """This replica's batches of a dataset that every replica has whole."""

    def averager(self, valid: Any) -> GradientAverager | None:
        """What averages the gradients of a graph; None where there is nothing to average."""

    def agree_on_restore(self, prefix: str | None, wanted: TensorSpecs) -> int | None:
        """The step that all replicas restore, selected by the chief.

        Args:
            prefix: What the chief restores; ignored elsewhere.
            wanted: What a checkpoint of this replica's graph holds.

        Returns:
            The step; None means that the chief has none to restore and there are no other replicas.

        Raises:
            ValueError: This replica's graph is not the chief's.
        """

    def finish(self) -> None:
        """Returns once all replicas have finished, so that none is left alone in a collective."""

    def errors(self) -> Any:
        """A context that turns the errors of collectives whose peer is gone into PeerLostError."""


class SingleReplica:
    """One process, without a server or collectives."""

    is_chief = True
    count = 1
    master = ""
    timeout_secs: float | None = None

    def __init__(self, config: RunConfig) -> None:
        self.session_config = config.session_config
        self.data_seed: int | None = config.tf_random_seed
        self.model_seed: int | None = config.tf_random_seed

    def input_context(self) -> tf.distribute.InputContext:
        return tf.distribute.InputContext()

    def shard(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset

    def averager(self, valid: Any) -> GradientAverager | None:  # noqa: ARG002 - signature of the protocol
        return None

    def agree_on_restore(self, prefix: str | None, wanted: TensorSpecs) -> int | None:  # noqa: ARG002 - likewise
        return None if prefix is None else step_of(prefix)

    def finish(self) -> None:
        pass

    @contextmanager
    def errors(self) -> Iterator[None]:
        yield


class ClusterReplicas:
    """The chief and the workers of TF_CONFIG; starts this task's server."""

    timeout_secs: float | None = _TIMEOUT_SECS

    def __init__(self, config: RunConfig) -> None:
        cluster = config.cluster_spec
        self.is_chief = config.is_chief
        self.count = config.num_worker_replicas
        self._index = config.global_id_in_cluster or 0
        chief = next(job for job in ("chief", "master") if job in cluster.jobs)
        self.session_config = _session_config(config, leader=f"/job:{chief}/replica:0/task:0")
        server = _start_server(
            json.dumps(cluster.as_dict()), config.task_type, config.task_id, self.session_config.SerializeToString()
        )
        self.master = server.target
        # Replicas must shuffle alike to share one epoch, and must not drop out alike.
        seed = _seed(config)
        self.data_seed: int | None = seed
        self.model_seed: int | None = seed + self._index
        self._instance_key = 0

    def input_context(self) -> tf.distribute.InputContext:
        return tf.distribute.InputContext(
            num_input_pipelines=self.count, input_pipeline_id=self._index, num_replicas_in_sync=self.count
        )

    def shard(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.shard(self.count, self._index)

    def averager(self, valid: Any) -> GradientAverager | None:
        self._instance_key = 0
        return GradientAverager(self._all_reduce_mean, valid=valid)

    def agree_on_restore(self, prefix: str | None, wanted: TensorSpecs) -> int | None:
        fingerprint = _fingerprint(wanted)
        if self.is_chief:
            assert prefix is not None, "the chief of a cluster publishes step 0 before it asks the others to restore"
        mine = [(step_of(prefix) or 0) if self.is_chief and prefix else 0, fingerprint]
        step, chief_fingerprint = self._broadcast(mine)
        if chief_fingerprint != fingerprint:
            raise ValueError(
                "The model of this task has other variables than the chief's: model_fn must build the same graph in "
                f"every task. Variables here: {', '.join(sorted(wanted))}."
            )
        return step

    def finish(self) -> None:
        self._barrier(1)
        try:
            self._barrier(2)
        except _PEER_ERRORS:
            # Everybody has passed the first barrier, so nobody waits for us: a peer may be gone by now.
            return

    @contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except _PEER_ERRORS as error:
            raise PeerLostError(f"Another task of the cluster is gone, or silent ({type(error).__name__}).") from error

    def _all_reduce_mean(self, tensor: Any) -> Any:
        self._instance_key += 1
        return self._reduce(tensor, self._instance_key)

    def _reduce(self, tensor: Any, instance_key: int) -> Any:
        return tf.raw_ops.CollectiveReduce(
            input=tensor,
            group_size=self.count,
            group_key=_GROUP_KEY,
            instance_key=instance_key,
            merge_op="Add",
            final_op="Div",
            subdiv_offsets=[0],
        )

    def _broadcast(self, values: list[int]) -> list[int]:
        """The chief's values, in every replica."""
        group: dict[str, Any] = {
            "group_size": self.count,
            "group_key": _GROUP_KEY,
            "instance_key": _CONTROL_KEY,
            "shape": [len(values)],
        }
        with tf.Graph().as_default():
            if self.is_chief:
                received = tf.raw_ops.CollectiveBcastSend(input=tf.constant(values, tf.int64), **group)
            else:
                received = tf.raw_ops.CollectiveBcastRecv(T=tf.int64, **group)
            return [int(value) for value in self._run(received)]

    def _barrier(self, number: int) -> None:
        with tf.Graph().as_default():
            self._run(self._reduce(tf.constant(1.0), _CONTROL_KEY + number))

    def _run(self, fetches: Any) -> Any:
        options = _v1.RunOptions(timeout_in_ms=int(_TIMEOUT_SECS * 1000))
        with _v1.Session(self.master, config=self.session_config) as session:
            return session.run(fetches, options=options)


def replicas_of(config: RunConfig) -> Replicas:
    """The replicas that a RunConfig describes.

    Raises:
        ValueError: The cluster has parameter servers, or this task does not train.
    """
    if config.num_ps_replicas:
        raise ValueError(
            "TF_CONFIG has `ps` tasks; training is synchronous, without parameter servers. "
            "Leave `ps` out of the cluster."
        )
    if config.task_type == "evaluator":
        raise ValueError("An evaluator does not train.")
    return ClusterReplicas(config) if config.num_worker_replicas > 1 else SingleReplica(config)


@functools.cache
def _start_server(cluster: str, task_type: str, task_id: int, config: bytes) -> Any:
    """The server of this process; TensorFlow cannot stop one, so another train() under this TF_CONFIG shares it."""
    return tf.distribute.Server(
        tf.train.ClusterSpec(json.loads(cluster)),
        job_name=task_type,
        task_index=task_id,
        protocol="grpc",
        config=_v1.ConfigProto.FromString(config),
    )


def _session_config(config: RunConfig, *, leader: str) -> Any:
    """The config's own, bound to this task: a session must neither wait for peers nor place operations on them."""
    session_config = _v1.ConfigProto()
    if config.session_config is not None:
        session_config.CopyFrom(config.session_config)
    del session_config.device_filters[:]
    session_config.device_filters.append(f"/job:{config.task_type}/task:{config.task_id}")
    session_config.experimental.collective_group_leader = leader
    return session_config


def _seed(config: RunConfig) -> int:
    if config.tf_random_seed is not None:
        return int(config.tf_random_seed)
    # `service` names the job and its generation; without a job, the cluster is what all tasks have in common.
    shared = config.service or config.cluster_spec.as_dict()
    return zlib.crc32(json.dumps(shared, sort_keys=True).encode()) & 0x3FFFFFFF


def _fingerprint(wanted: TensorSpecs) -> int:
    text = "\n".join(f"{name} {spec.dtype.name} {spec.shape}" for name, spec in sorted(wanted.items()))
    return zlib.crc32(text.encode())
