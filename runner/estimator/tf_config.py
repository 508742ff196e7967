"""What one task reads from TF_CONFIG: its cluster, its place in it, and its session masters."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

__all__ = ["TaskConfig"]

_CHIEF = "chief"
_MASTER = "master"
_WORKER = "worker"
_PS = "ps"
_EVALUATOR = "evaluator"

_LOCAL_MASTER = ""
_DEVICE_FILTERS = {
    _MASTER: ("/job:ps", "/job:master"),
    _CHIEF: ("/job:ps", "/job:chief"),
    _PS: ("/job:ps", "/job:worker", "/job:chief", "/job:master"),
}
_NOTE = "\n\nNote that these values may be coming from the TF_CONFIG environment variable."


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The place of one task, as tf.estimator of TensorFlow 2.15 derived it from TF_CONFIG.

    Attributes:
        service: What TF_CONFIG says under "service".
        cluster_spec: tf.train.ClusterSpec of the training cluster; empty for a local task and an evaluator.
        task_type: "chief", "master" (its older name), "worker", "ps" or "evaluator".
        task_id: Index within the task type.
        global_id_in_cluster: 0 for the chief, then all others, ps last; None for an evaluator.
        master: Session target of training; "" is a session in this process.
        evaluation_master: Session target of evaluation.
        is_chief: Whether this task writes checkpoints.
        num_ps_replicas: Number of ps tasks.
        num_worker_replicas: Number of workers, the chief included; 0 for an evaluator.
    """

    service: dict[str, Any] | None
    cluster_spec: Any
    task_type: str
    task_id: int
    global_id_in_cluster: int | None
    master: str
    evaluation_master: str
    is_chief: bool
    num_ps_replicas: int
    num_worker_replicas: int

    @classmethod
    def parse(cls, tf_config: dict[str, Any]) -> "TaskConfig":
        """Reads a TF_CONFIG that was decoded from JSON; an empty one describes a local task.

        Raises:
            TypeError: "service" is not a dict, or "cluster" is not a cluster.
            ValueError: The cluster has not exactly one chief, or the task is not in it.
        """
        service = tf_config.get("service")
        if service is not None and not isinstance(service, dict):
            raise TypeError(f'If "service" is set in TF_CONFIG, it must be a dict. Given {type(service)}')
        cluster_spec = tf.train.ClusterSpec(tf_config.get("cluster", {}))
        task = tf_config.get("task", {})
        if not cluster_spec:
            return _local(service, cluster_spec, task, tf_config)
        chief_type = _chief_type(cluster_spec)
        task_type, task_id = _type_and_id(task)
        if task_type != _EVALUATOR:
            return _distributed(service, cluster_spec, chief_type, task_type, task_id, tf_config)
        if chief_type == _MASTER:
            raise ValueError("If `master` node exists in `cluster`, task_type `evaluator` is not supported.")
        return _evaluator(service, task_id, tf_config)

    @property
    def device_filters(self) -> tuple[str, ...]:
        """The tasks whose devices a session of this one may see; empty means all."""
        if self.task_type == _WORKER:
            return "/job:ps", f"/job:worker/task:{self.task_id}"
        return _DEVICE_FILTERS.get(self.task_type, ())


def _local(service: Any, cluster_spec: Any, task: dict[str, Any], tf_config: dict[str, Any]) -> TaskConfig:
    """The only task of a training without a cluster."""
    if task.get("type", _WORKER) != _WORKER:
        raise ValueError('If "cluster" is not set in TF_CONFIG, task type must be WORKER.')
    if int(task.get("index", 0)) != 0:
        raise ValueError('If "cluster" is not set in TF_CONFIG, task index must be 0.')
    return TaskConfig(
        service=service,
        cluster_spec=cluster_spec,
        task_type=_WORKER,
        task_id=0,
        global_id_in_cluster=0,
        master=tf_config.get("session_master", _LOCAL_MASTER),
        evaluation_master=tf_config.get("eval_session_master", _LOCAL_MASTER),
        is_chief=True,
        num_ps_replicas=0,
        num_worker_replicas=1,
    )


def _evaluator(service: Any, task_id: int, tf_config: dict[str, Any]) -> TaskConfig:
    """A task that follows the checkpoints from outside the training cluster, so that no device of it is awaited."""
    return TaskConfig(
        service=service,
        cluster_spec=tf.train.ClusterSpec({}),
        task_type=_EVALUATOR,
        task_id=task_id,
        global_id_in_cluster=None,
        master=_LOCAL_MASTER,
        evaluation_master=tf_config.get("eval_session_master", _LOCAL_MASTER),
        is_chief=False,
        num_ps_replicas=0,
        num_worker_replicas=0,
    )


def _distributed(
    service: Any, cluster_spec: Any, chief_type: str, task_type: str, task_id: int, tf_config: dict[str, Any]
) -> TaskConfig:
    """A task of the training cluster."""
    address = _address(cluster_spec, task_type, task_id)
    alone = sum(cluster_spec.num_tasks(job) for job in cluster_spec.jobs) == 1
    return TaskConfig(
        service=service,
        cluster_spec=cluster_spec,
        task_type=task_type,
        task_id=task_id,
        global_id_in_cluster=_global_id(cluster_spec, chief_type, task_type, task_id),
        master=tf_config.get("session_master", _LOCAL_MASTER if alone else f"grpc://{address}"),
        evaluation_master=_LOCAL_MASTER,
        is_chief=task_type == chief_type,
        num_ps_replicas=_count(cluster_spec, _PS),
        num_worker_replicas=_count(cluster_spec, _WORKER) + 1,
    )


def _chief_type(cluster_spec: Any) -> str:
    """The name under which the cluster lists its one chief: "chief" or the older "master"."""
    jobs = cluster_spec.jobs
    if _MASTER in jobs and _CHIEF in jobs:
        raise ValueError("If `master` node exists in `cluster`, job `chief` is not supported.")
    chief_type = _MASTER if _MASTER in jobs else _CHIEF
    if chief_type not in jobs:
        raise ValueError(f'If "cluster" is set in TF_CONFIG, it must have one "{chief_type}" node.')
    if len(cluster_spec.job_tasks(chief_type)) > 1:
        raise ValueError(f'The "cluster" in TF_CONFIG must have only one "{chief_type}" node.')
    return chief_type


def _type_and_id(task: dict[str, Any]) -> tuple[str, int]:
    """The "task" of a TF_CONFIG that has a cluster; the upper bound of the index is left to `_address`."""
    task_type = task.get("type")
    task_id = task.get("index")
    if not task_type:
        raise ValueError('If "cluster" is set in TF_CONFIG, task type must be set.')
    if task_id is None:
        raise ValueError('If "cluster" is set in TF_CONFIG, task index must be set.')
    if int(task_id) < 0:
        raise ValueError("Task index must be non-negative number.")
    return task_type, int(task_id)


def _address(cluster_spec: Any, task_type: str, task_id: int) -> str:
    """The "host:port" of a task, which must be in the cluster."""
    if task_type not in cluster_spec.jobs:
        raise ValueError(f"{task_type} is not a valid task_type in the cluster_spec:\n{cluster_spec}{_NOTE}")
    addresses = cluster_spec.job_tasks(task_type)
    if task_id >= len(addresses) or addresses[task_id] is None:
        raise ValueError(
            f"{task_id} is not a valid task_id for task_type {task_type} in the cluster_spec:\n{cluster_spec}{_NOTE}"
        )
    return str(addresses[task_id])


def _global_id(cluster_spec: Any, chief_type: str, task_type: str, task_id: int) -> int:
    """The position of a task among all of the cluster: the chief, then the other types by name, ps last."""

    def types_before() -> Iterator[str]:
        others = sorted(set(cluster_spec.jobs) - {chief_type, _PS})
        for each in (chief_type, *others):
            if each == task_type:
                return
            yield each

    # The ids of a sparse cluster have holes where its tasks have.
    return sum(len(cluster_spec.job_tasks(each)) for each in types_before()) + task_id


def _count(cluster_spec: Any, task_type: str) -> int:
    return int(cluster_spec.num_tasks(task_type)) if task_type in cluster_spec.jobs else 0
