"""The replicas of a training: this process alone, or the chief and the workers of a cluster, in lock-step."""

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import tensorflow as tf

from runner.checkpoint.compatibility import TensorSpecs
from runner.checkpoint.listing import step_of
from runner.errors import PeerLostError
from runner.estimator.replicas.averaging import GradientAverager
from runner.estimator.replicas.collectives import Collectives
from runner.estimator.run_config import RunConfig

__all__ = ["ClusterReplicas", "Replicas", "SingleReplica", "replicas_of"]

_TRAINING_JOBS = ("chief", "master", "worker")


class Replicas(Protocol):
    """What a training run needs to know of the processes it runs in.

    Attributes:
        is_chief: Whether this process writes.
        count: Number of replicas.
        averager: What averages the gradients of the graph; None where there is nothing to average.
        data_seed: Graph seed while the input is built, the same in all replicas; None leaves it unset.
        model_seed: Graph seed while the model is built, another one in each replica; None leaves it unset.
    """

    is_chief: bool
    count: int
    averager: GradientAverager | None
    data_seed: int | None
    model_seed: int | None

    def input_context(self) -> tf.distribute.InputContext:
        """What an input_fn needs to shard its data itself."""

    def shard(self, result: Any) -> Any:
        """This replica's batches of what an input_fn that does not shard returned in every replica.

        Raises:
            ValueError: It is no dataset, and there are other replicas.
        """

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
        """Ends the training of all replicas at the step of the first that ends, and returns once all have finished.

        To be called when this replica's loop has ended without an error, so that none is left alone in a collective.
        """

    def errors(self) -> Any:
        """A context that turns whatever a failed collective led to into PeerLostError."""


class SingleReplica:
    """One process, without a server or collectives."""

    is_chief = True
    count = 1
    averager: GradientAverager | None = None

    def __init__(self, config: RunConfig) -> None:
        self.data_seed: int | None = config.tf_random_seed
        self.model_seed: int | None = config.tf_random_seed

    def input_context(self) -> tf.distribute.InputContext:
        return tf.distribute.InputContext()

    def shard(self, result: Any) -> Any:
        return result

    def agree_on_restore(self, prefix: str | None, wanted: TensorSpecs) -> int | None:  # noqa: ARG002 - see Replicas
        return None if prefix is None else step_of(prefix)

    def finish(self) -> None:
        pass

    @contextmanager
    def errors(self) -> Iterator[None]:
        yield


class ClusterReplicas:
    """The chief and the workers of TF_CONFIG; returns from its constructor when all of them are there."""

    def __init__(self, config: RunConfig) -> None:
        addresses = config.cluster_spec.as_dict()
        cluster = {job: addresses[job] for job in _TRAINING_JOBS if job in addresses}
        self.is_chief = config.is_chief
        # Replicas must shuffle alike to share one epoch, and must not drop out alike.
        seed = _seed(config)
        self.data_seed: int | None = seed
        self._collectives = Collectives(cluster, config.task_type, config.task_id)
        self.model_seed: int | None = seed + self._collectives.index
        self.count = self._collectives.count
        self.averager: GradientAverager | None = GradientAverager(self._collectives)
        self._collectives.connect(timeout_secs=config.session_creation_timeout_secs)

    def input_context(self) -> tf.distribute.InputContext:
        return tf.distribute.InputContext(
            num_input_pipelines=self.count,
            input_pipeline_id=self._collectives.index,
            num_replicas_in_sync=self.count,
        )

    def shard(self, result: Any) -> Any:
        if not isinstance(result, tf.data.Dataset):
            raise ValueError(  # noqa: TRY004 - one kind of error for what an input_fn returns
                f"input_fn returned {type(result).__name__}, which cannot be dealt out to {self.count} tasks. "
                "Return a tf.data.Dataset, or shard the data yourself in an input_fn(input_context)."
            )
        return result.shard(self.count, self._collectives.index)

    def agree_on_restore(self, prefix: str | None, wanted: TensorSpecs) -> int | None:
        fingerprint = _fingerprint(wanted)
        if self.is_chief:
            assert prefix is not None, "the chief of a cluster publishes step 0 before it asks the others to restore"
        mine = [(step_of(prefix) or 0) if self.is_chief and prefix else 0, fingerprint]
        step, chief_fingerprint = self._collectives.broadcast(mine, is_sender=self.is_chief)
        if chief_fingerprint != fingerprint:
            raise ValueError(
                "The model of this task has other variables than the chief's: model_fn must build the same graph in "
                f"every task. Variables here: {', '.join(sorted(wanted))}."
            )
        return step

    def finish(self) -> None:
        if self.averager is not None:
            self.averager.end()
        try:
            self._collectives.barrier()
        except PeerLostError:
            # All have ended at the same step by now and wait for nothing, so one that is gone already is no loss.
            return
        finally:
            self._collectives.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            # A session reports the error of a collective as its own, of any type; nothing is swallowed here.
            self._collectives.close()
            self._collectives.raise_if_lost()
            raise


def replicas_of(config: RunConfig) -> Replicas:
    """The replicas that a RunConfig describes.

    Raises:
        ValueError: The cluster has parameter servers, or this task does not train.
        PeerLostError: Not all tasks were there within the config's session_creation_timeout_secs.
    """
    if config.num_ps_replicas:
        raise ValueError(
            "TF_CONFIG has `ps` tasks; training is synchronous, without parameter servers. "
            "Leave `ps` out of the cluster."
        )
    if config.task_type == "evaluator":
        raise ValueError("An evaluator does not train.")
    return ClusterReplicas(config) if config.num_worker_replicas > 1 else SingleReplica(config)


def _seed(config: RunConfig) -> int:
    if config.tf_random_seed is not None:
        return int(config.tf_random_seed)
    # `service` names the job and its generation; without a job, the cluster is what all tasks have in common.
    shared = config.service or config.cluster_spec.as_dict()
    return zlib.crc32(json.dumps(shared, sort_keys=True).encode()) & 0x3FFFFFFF


def _fingerprint(wanted: TensorSpecs) -> int:
    text = "\n".join(f"{name} {spec.dtype.name} {spec.shape}" for name, spec in sorted(wanted.items()))
    return zlib.crc32(text.encode())
