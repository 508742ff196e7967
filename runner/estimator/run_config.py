"""How an Estimator runs: where it writes, when it saves and logs, and its place in the cluster."""

import copy
import inspect
import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import tensorflow as tf

from runner.estimator.tf_config import TaskConfig

__all__ = ["RunConfig", "default_session_config"]

# The lines that users of tf.estimator know are logged under TensorFlow's name, so that their filters still apply.
_logger = logging.getLogger("tensorflow")

_USE_DEFAULT: Any = object()
_DEFAULT_SAVE_CHECKPOINTS_SECS = 600
_BOTH_SCHEDULES = "`save_checkpoints_steps` and `save_checkpoints_secs` cannot be both set."

_REPLACEABLE = [
    "model_dir",
    "tf_random_seed",
    "save_summary_steps",
    "save_checkpoints_steps",
    "save_checkpoints_secs",
    "session_config",
    "keep_checkpoint_max",
    "keep_checkpoint_every_n_hours",
    "log_step_count_steps",
    "train_distribute",
    "device_fn",
    "protocol",
    "eval_distribute",
    "experimental_distribute",
    "experimental_max_worker_delay_secs",
    "session_creation_timeout_secs",
    "checkpoint_save_graph_def",
]


def _takes_only_op(device_fn: Any) -> bool:
    if not callable(device_fn):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(device_fn).parameters.values()
    return [each.name for each in parameters if each.kind in positional] == ["op"]


_CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("model_dir", bool, "model_dir should be non-empty"),
    ("save_summary_steps", lambda steps: steps >= 0, "save_summary_steps should be >= 0"),
    ("save_checkpoints_steps", lambda steps: steps >= 0, "save_checkpoints_steps should be >= 0"),
    ("save_checkpoints_secs", lambda secs: secs >= 0, "save_checkpoints_secs should be >= 0"),
    (
        "session_config",
        lambda config: isinstance(config, tf.compat.v1.ConfigProto),
        "session_config must be instance of ConfigProto",
    ),
    ("keep_checkpoint_max", lambda count: count >= 0, "keep_checkpoint_max should be >= 0"),
    ("keep_checkpoint_every_n_hours", lambda hours: hours > 0, "keep_checkpoint_every_n_hours should be > 0"),
    ("log_step_count_steps", lambda steps: steps > 0, "log_step_count_steps should be > 0"),
    ("tf_random_seed", lambda seed: isinstance(seed, int), "tf_random_seed must be integer."),
    (
        "experimental_max_worker_delay_secs",
        lambda secs: isinstance(secs, int),
        "experimental_max_worker_delay_secs must be an integer if set.",
    ),
    ("session_creation_timeout_secs", lambda secs: secs > 0, "session_creation_timeout_secs should be > 0"),
    ("device_fn", _takes_only_op, 'device_fn must be callable with exactly one argument "op".'),
    ("protocol", lambda protocol: protocol in ("grpc", "grpc+verbs"), "protocol should be grpc or grpc+verbs"),
)
"""Property, what must hold of it unless it is None, and the error otherwise: all as in TensorFlow 2.15."""


def default_session_config(device_filters: Sequence[str] = ()) -> Any:
    """The ConfigProto of a session for which the user gave none.

    Args:
        device_filters: The tasks whose devices the session may see; empty means all.
    """
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True, device_filters=device_filters)
    rewrite_options = config.graph_options.rewrite_options
    rewrite_options.meta_optimizer_iterations = rewrite_options.ONE
    return config


class RunConfig:
    """The configuration of one task of a run; immutable, `replace` returns a changed copy.

    The constructor reads TF_CONFIG from the environment. Behaviour, defaults and messages are those of
    tf.estimator.RunConfig in TensorFlow 2.15.

    Args:
        model_dir: Directory or URL for all outputs; None takes that of TF_CONFIG, and it must not differ from it.
        tf_random_seed: Seed of the graph; None draws one per run.
        save_summary_steps: Steps between two summaries; None or 0 writes none.
        save_checkpoints_steps: Steps between two checkpoints. Excludes `save_checkpoints_secs`.
        save_checkpoints_secs: Seconds between two checkpoints; 600 if neither is given. Both None saves none.
        session_config: tf.compat.v1.ConfigProto; None means `default_session_config`.
        keep_checkpoint_max: Number of newest checkpoints to keep; None or 0 keeps all.
        keep_checkpoint_every_n_hours: Also keep one checkpoint per so many hours.
        log_step_count_steps: Steps between two lines with the loss and global_step/sec; None logs none.
        train_distribute: tf.distribute.Strategy for training in one process.
        device_fn: Maps an operation, its only argument `op`, to a device string.
        protocol: "grpc" or "grpc+verbs"; None means "grpc".
        eval_distribute: tf.distribute.Strategy for evaluation in one process.
        experimental_distribute: Object with `train_distribute` and `eval_distribute` that stand for the above.
        experimental_max_worker_delay_secs: Upper bound of a worker's delay at its start.
        session_creation_timeout_secs: How long a worker waits for its session.
        checkpoint_save_graph_def: Whether `graph.pbtxt` and `.meta` files are written.

    Raises:
        ValueError: A value is not allowed, or TF_CONFIG describes no valid cluster or task.
        TypeError: A part of TF_CONFIG has the wrong type.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str] | None = None,
        tf_random_seed: int | None = None,
        save_summary_steps: int | None = 100,
        save_checkpoints_steps: int | None = _USE_DEFAULT,
        save_checkpoints_secs: int | None = _USE_DEFAULT,
        session_config: Any = None,
        keep_checkpoint_max: int | None = 5,
        keep_checkpoint_every_n_hours: float | None = 10000,
        log_step_count_steps: int | None = 100,
        train_distribute: Any = None,
        device_fn: Callable[[Any], str] | None = None,
        protocol: str | None = None,
        eval_distribute: Any = None,
        experimental_distribute: Any = None,
        experimental_max_worker_delay_secs: int | None = None,
        session_creation_timeout_secs: int | None = 7200,
        checkpoint_save_graph_def: bool = True,
    ) -> None:
        steps, secs = _schedule(save_checkpoints_steps, save_checkpoints_secs)
        tf_config = json.loads(os.environ.get("TF_CONFIG", "{}"))
        if tf_config:
            _logger.info("TF_CONFIG environment variable: %s", tf_config)

        # The order is that of the line "Using config: {...}".
        self._model_dir = _model_dir(tf_config, model_dir)
        self._tf_random_seed = tf_random_seed
        self._save_summary_steps = save_summary_steps
        self._save_checkpoints_steps = steps
        self._save_checkpoints_secs = secs
        self._session_config = session_config
        self._keep_checkpoint_max = keep_checkpoint_max
        self._keep_checkpoint_every_n_hours = keep_checkpoint_every_n_hours
        self._log_step_count_steps = log_step_count_steps
        self._train_distribute = train_distribute
        self._device_fn = device_fn
        self._protocol = protocol
        self._eval_distribute = eval_distribute
        self._experimental_distribute = experimental_distribute
        self._experimental_max_worker_delay_secs = experimental_max_worker_delay_secs
        self._session_creation_timeout_secs = session_creation_timeout_secs
        self._checkpoint_save_graph_def = checkpoint_save_graph_def
        _validate(self)
        if train_distribute or eval_distribute or experimental_distribute:
            self._take_strategies()

        task = TaskConfig.parse(tf_config)
        self._service = task.service
        self._cluster_spec = task.cluster_spec
        self._task_type = task.task_type
        self._task_id = task.task_id
        self._global_id_in_cluster = task.global_id_in_cluster
        self._master = task.master
        self._evaluation_master = task.evaluation_master
        self._is_chief = task.is_chief
        self._num_ps_replicas = task.num_ps_replicas
        self._num_worker_replicas = task.num_worker_replicas
        if self._cluster_spec and not self._session_config:
            self._session_config = default_session_config(task.device_filters)

    def replace(self, **kwargs: Any) -> Self:
        """A copy with some properties changed; setting one save_checkpoints_* sets the other to None.

        Args:
            **kwargs: New values by name; what TF_CONFIG determines cannot be replaced.

        Raises:
            ValueError: A name cannot be replaced, or a value is not allowed.
        """
        for name in kwargs:
            if name not in _REPLACEABLE:
                raise ValueError(f"Replacing {name} is not supported. Allowed properties are {_REPLACEABLE}.")
        steps, secs = kwargs.get("save_checkpoints_steps"), kwargs.get("save_checkpoints_secs")
        if steps is not None and secs is not None:
            raise ValueError(_BOTH_SCHEDULES)
        if steps is not None:
            kwargs["save_checkpoints_secs"] = None
        if secs is not None:
            kwargs["save_checkpoints_steps"] = None
        if "model_dir" in kwargs:
            kwargs["model_dir"] = _path_to_str(kwargs["model_dir"])

        config = copy.deepcopy(self)
        for name, value in kwargs.items():
            setattr(config, f"_{name}", value)
        _validate(config)
        return config

    def _take_strategies(self) -> None:
        _logger.info("Initializing RunConfig with distribution strategies.")
        for name in ("train_distribute", "eval_distribute"):
            strategy = getattr(self._experimental_distribute, name) if self._experimental_distribute else None
            if strategy and getattr(self, name):
                raise ValueError(f"Either `{name}` or`experimental_distribute.{name}` can be set.")
            if strategy:
                setattr(self, f"_{name}", strategy)
        _logger.info("Not using Distribute Coordinator.")

    @property
    def model_dir(self) -> str | None:
        """Directory or URL for all outputs; None until an Estimator chooses one."""
        return self._model_dir

    @property
    def tf_random_seed(self) -> int | None:
        """Seed of the graph."""
        return self._tf_random_seed

    @property
    def save_summary_steps(self) -> int | None:
        """Steps between two summaries."""
        return self._save_summary_steps

    @property
    def save_checkpoints_steps(self) -> int | None:
        """Steps between two checkpoints; None if they are not saved by steps."""
        return self._save_checkpoints_steps

    @property
    def save_checkpoints_secs(self) -> int | None:
        """Seconds between two checkpoints; None if they are not saved by time."""
        return self._save_checkpoints_secs

    @property
    def session_config(self) -> Any:
        """tf.compat.v1.ConfigProto of the sessions."""
        return self._session_config

    @property
    def keep_checkpoint_max(self) -> int | None:
        """Number of newest checkpoints to keep."""
        return self._keep_checkpoint_max

    @property
    def keep_checkpoint_every_n_hours(self) -> float | None:
        """One checkpoint per so many hours is kept for good."""
        return self._keep_checkpoint_every_n_hours

    @property
    def log_step_count_steps(self) -> int | None:
        """Steps between two lines with the loss and global_step/sec."""
        return self._log_step_count_steps

    @property
    def train_distribute(self) -> Any:
        """tf.distribute.Strategy for training in one process."""
        return self._train_distribute

    @property
    def device_fn(self) -> Callable[[Any], str] | None:
        """Maps an operation to a device string."""
        return self._device_fn

    @property
    def protocol(self) -> str | None:
        """Protocol of the server; None means "grpc"."""
        return self._protocol

    @property
    def eval_distribute(self) -> Any:
        """tf.distribute.Strategy for evaluation in one process."""
        return self._eval_distribute

    @property
    def experimental_max_worker_delay_secs(self) -> int | None:
        """Upper bound of a worker's delay at its start."""
        return self._experimental_max_worker_delay_secs

    @property
    def session_creation_timeout_secs(self) -> int | None:
        """How long a worker waits for its session."""
        return self._session_creation_timeout_secs

    @property
    def checkpoint_save_graph_def(self) -> bool:
        """Whether `graph.pbtxt` and `.meta` files are written."""
        return self._checkpoint_save_graph_def

    @property
    def service(self) -> dict[str, Any] | None:
        """What TF_CONFIG says under "service"."""
        return self._service

    @property
    def cluster_spec(self) -> Any:
        """tf.train.ClusterSpec of the training cluster; empty for a local task and an evaluator."""
        return self._cluster_spec

    @property
    def task_type(self) -> str:
        """One of "chief", "master", "worker", "ps" and "evaluator"."""
        return self._task_type

    @property
    def task_id(self) -> int:
        """Index within the task type."""
        return self._task_id

    @property
    def global_id_in_cluster(self) -> int | None:
        """0 for the chief, then all other tasks, ps last; None for an evaluator."""
        return self._global_id_in_cluster

    @property
    def master(self) -> str:
        """Session target of training; "" is a session in this process."""
        return self._master

    @property
    def evaluation_master(self) -> str:
        """Session target of evaluation."""
        return self._evaluation_master

    @property
    def is_chief(self) -> bool:
        """Whether this task writes checkpoints."""
        return self._is_chief

    @property
    def num_ps_replicas(self) -> int:
        """Number of ps tasks."""
        return self._num_ps_replicas

    @property
    def num_worker_replicas(self) -> int:
        """Number of workers, the chief included."""
        return self._num_worker_replicas


def _validate(config: RunConfig) -> None:
    for name, is_valid, message in _CHECKS:
        value = getattr(config, name)
        if value is not None and not is_valid(value):
            raise ValueError(message)


def _schedule(steps: int | None, secs: int | None) -> tuple[int | None, int | None]:
    """The checkpoint schedule from two arguments of which at most one may be set."""
    if steps is _USE_DEFAULT and secs is _USE_DEFAULT:
        return None, _DEFAULT_SAVE_CHECKPOINTS_SECS
    steps = None if steps is _USE_DEFAULT else steps
    secs = None if secs is _USE_DEFAULT else secs
    if steps is not None and secs is not None:
        raise ValueError(_BOTH_SCHEDULES)
    return steps, secs


def _path_to_str(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _model_dir(tf_config: dict[str, Any], argument: str | os.PathLike[str] | None) -> str | None:
    """The model_dir that argument and TF_CONFIG agree on."""
    model_dir = _path_to_str(argument)
    in_tf_config: str | None = tf_config.get("model_dir")
    if model_dir == "":
        raise ValueError("model_dir should be non-empty.")
    if in_tf_config == "":
        raise ValueError("model_dir in TF_CONFIG should be non-empty.")
    if in_tf_config is None:
        return model_dir
    if model_dir not in (None, in_tf_config):
        raise ValueError(
            "`model_dir` provided in RunConfig construct, if set, must have the same value as the model_dir in "
            f'TF_CONFIG. model_dir: {model_dir}\nTF_CONFIG["model_dir"]: {in_tf_config}.\n'
        )
    _logger.info("Using model_dir in TF_CONFIG: %s", in_tf_config)
    return in_tf_config
