"""One call of evaluate(): metrics over an input, with the weights of a checkpoint, written to the eval directory."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from runner.checkpoint.evaluations import record_evaluation
from runner.checkpoint.listing import latest_checkpoint
from runner.checkpoint.reading import read_newest
from runner.checkpoint.saver import Checkpoints
from runner.errors import StorageError
from runner.estimator.events import EventFile, remote_writers, write_graph, write_metrics
from runner.estimator.hooks.outputs import check_outputs
from runner.estimator.inputs.batch import call_input_fn, make_batch
from runner.estimator.model_fn import EstimatorSpec, ModeKeys
from runner.estimator.run_config import RunConfig
from runner.estimator.session import HookedSession, create_session
from runner.estimator.warm_start import WarmStartSettings, warm_start
from runner.storage.urls import open_directory, resolve_model_dir, split_prefix

__all__ = ["LOSS_METRIC", "Evaluation", "EvaluationModel", "open_local_session"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")

LOSS_METRIC = "loss"
"""Key of the mean loss over the batches, which the estimator adds to the metrics of the model_fn."""


class EvaluationModel(NamedTuple):
    """A model to be evaluated, as tensors of its graph.

    Attributes:
        scaffold: Of the model_fn.
        hooks: Those of the input, of the user and of the model_fn.
        update_op: Adds one batch to all metrics.
        values: The metrics by name.
    """

    scaffold: Any
    hooks: list[Any]
    update_op: Any
    values: dict[str, Any]


@dataclass
class Evaluation:
    """What evaluate() was asked to do.

    Attributes:
        model_dir: Where checkpoints are.
        config: The estimator's.
        params: The estimator's.
        call_model_fn: (features, labels, mode) -> EstimatorSpec.
        input_fn: The user's.
        eval_dir: Where the event file goes.
        checkpoint_path: Prefix to restore; None evaluates the initial weights.
        is_latest: It was looked up, not asked for by name: see `open_local_session`.
        warm_start_settings: Where the initial weights come from, if there are any.
        hooks: The user's.
        steps: Number of batches; None means all of the input.
    """

    model_dir: str
    config: RunConfig
    params: dict[str, Any]
    call_model_fn: Callable[[Any, Any, str], EstimatorSpec]
    input_fn: Callable[..., Any]
    eval_dir: str
    checkpoint_path: str | None
    is_latest: bool = False
    warm_start_settings: WarmStartSettings | None = None
    hooks: Sequence[Any] = ()
    steps: int | None = None
    _stack: ExitStack = field(default_factory=ExitStack, init=False)

    def run(self) -> dict[str, Any]:
        """Evaluates.

        Returns:
            Metrics by name, with `loss` and `global_step`.
        """
        with self._stack, remote_writers(), tf.Graph().as_default() as graph, graph.device(self.config.device_fn):
            model = self.build()
            return self.evaluate(model, functools.partial(self._open_session, model.scaffold))

    def build(self) -> EvaluationModel:
        """Builds the input and the model in the default graph, which is empty."""
        if self.config.tf_random_seed is not None:
            _v1.set_random_seed(self.config.tf_random_seed)
        global_step = _v1.train.create_global_step()
        with tf.device("/cpu:0"):
            result = call_input_fn(
                self.input_fn,
                mode=ModeKeys.EVAL,
                params=self.params,
                config=self.config,
                input_context=tf.distribute.InputContext(),  # of the only one that reads
            )
            batch = make_batch(result)
        spec = self.call_model_fn(batch.features, batch.labels, ModeKeys.EVAL)
        update_op, values = _metrics(spec)
        if self.checkpoint_path is None and self.warm_start_settings is not None:
            warm_start(self.warm_start_settings, self._stack)
        values[_v1.GraphKeys.GLOBAL_STEP] = global_step
        hooks = [*batch.hooks, *self.hooks, _StepsHook(self.steps), *spec.evaluation_hooks]
        return EvaluationModel(_with_all_local_variables(spec.scaffold), hooks, update_op, values)

    def evaluate(self, model: EvaluationModel, open_session: Callable[[], Any]) -> dict[str, Any]:
        """Evaluates a model that was built in the default graph, and writes the metrics.

        Args:
            model: It.
            open_session: Finalizes the graph, if it is not yet, and returns a session with the weights.
        """
        _logger.info(
            "Starting evaluation at %s", datetime.now().astimezone().replace(tzinfo=None).isoformat("T", "seconds")
        )
        start = time.monotonic()
        check_outputs(model.hooks)
        for hook in model.hooks:
            hook.begin()
        session = open_session()
        final = _v1.train.FinalOpsHook(model.values)
        with HookedSession(session, [*model.hooks, final]) as hooked:
            while not hooked.should_stop():
                hooked.run(model.update_op)
        _logger.info("Inference Time : %.5fs", time.monotonic() - start)
        _logger.info("Finished evaluation at %s", time.strftime("%Y-%m-%d-%H:%M:%S", time.localtime()))
        results: dict[str, Any] = final.final_ops_values
        with EventFile(self.eval_dir) as events:
            write_graph(events.writer, session.graph, model.scaffold.saver)
            write_metrics(
                events.writer,
                results,
                step=int(results[_v1.GraphKeys.GLOBAL_STEP]),
                checkpoint_path=self.checkpoint_path,
            )
        if self.checkpoint_path is not None:
            self._record(self.checkpoint_path, results)
        return results

    def _record(self, checkpoint_path: str, results: dict[str, Any]) -> None:
        """Notes the metrics of a checkpoint of model_dir, for those who keep the best one and read no event files."""
        url, basename = split_prefix(checkpoint_path)
        if url != resolve_model_dir(self.model_dir):
            return
        metrics = {name: float(value) for name, value in results.items() if isinstance(value, (float, int, np.number))}
        metrics.pop(_v1.GraphKeys.GLOBAL_STEP, None)
        name = self.eval_dir.rstrip("/").removeprefix(self.model_dir.rstrip("/") + "/")
        try:
            record_evaluation(open_directory(url), basename, metrics, name=name)
        except StorageError as error:  # what it is for can do without
            _logger.warning("The metrics of %s are not recorded: %s", checkpoint_path, error)

    def _open_session(self, scaffold: Any) -> Any:
        session, self.checkpoint_path = open_local_session(
            scaffold,
            model_dir=self.model_dir,
            config=self.config,
            checkpoint_path=self.checkpoint_path,
            is_latest=self.is_latest,
        )
        return session


class _StepsHook(tf.compat.v1.train.SessionRunHook):
    """Counts the steps of an evaluation, in the log, and ends it after the last one.

    Args:
        steps: How many there are to be; None if the input is to end it, and no line is due.
    """

    def __init__(self, steps: int | None) -> None:
        self._steps = steps
        self._done = 0

    def begin(self) -> None:
        self._done = 0

    def after_run(self, run_context: Any, run_values: Any) -> None:  # noqa: ARG002 - as SessionRunHook has it
        self._done += 1
        if self._steps is None:
            return
        log_every = 1 if self._steps < 20 else self._steps // 10  # noqa: PLR2004 - as the original
        if self._done % log_every == 0 or self._done == self._steps:
            _logger.info("Evaluation [%d/%d]", self._done, self._steps)
        if self._done == self._steps:
            run_context.request_stop()


def _with_all_local_variables(scaffold: Any) -> Any:
    """The scaffold, whose own local_init_op may know nothing of the variables of the metrics."""
    if scaffold.local_init_op is None:
        return scaffold
    with tf.control_dependencies([scaffold.local_init_op]):  # what that initializes keeps its value
        rest = [
            tf.cond(_v1.is_variable_initialized(variable), tf.no_op, functools.partial(_initialize, variable))
            for variable in _v1.local_variables()
        ]
    local_init_op = tf.group(scaffold.local_init_op, _v1.tables_initializer(), *rest)
    return _v1.train.Scaffold(local_init_op=local_init_op, copy_from_scaffold=scaffold)


def _initialize(variable: Any) -> Any:
    return tf.group(variable.assign(variable.initial_value))


def open_local_session(
    scaffold: Any, *, model_dir: str, config: RunConfig, checkpoint_path: str | None, is_latest: bool
) -> tuple[Any, str | None]:
    """Finalizes the default graph and opens a session in this process, with the weights of a checkpoint.

    Args:
        scaffold: Of the model_fn.
        model_dir: Where checkpoints are.
        config: The estimator's.
        checkpoint_path: Prefix of the checkpoint; None opens the session with the initial weights.
        is_latest: It was the latest one in model_dir a moment ago: if it is deleted meanwhile, the newest one will do.

    Returns:
        The session, and the prefix of what it restored.

    Raises:
        tf.errors.InvalidArgumentError: The checkpoint does not fit the model.
        CheckpointDamagedError: It is damaged.
    """
    scaffold.finalize()
    if checkpoint_path is None:
        return create_session(scaffold, config=config.session_config), None
    checkpoints = Checkpoints(model_dir, scaffold.saver)
    load = functools.partial(checkpoints.load, training=False)
    latest = functools.partial(latest_checkpoint, model_dir)
    loaded = read_newest(checkpoint_path, latest=latest, read=load) if is_latest else load(checkpoint_path)
    restore = functools.partial(checkpoints.restore, loaded=loaded)
    return create_session(scaffold, restore=restore, config=config.session_config), loaded.prefix


def _metrics(spec: EstimatorSpec) -> tuple[Any, dict[str, Any]]:
    """One op that updates all metrics, and their values by name."""
    for name, quoted in ((LOSS_METRIC, f'"{LOSS_METRIC}"'), (_v1.GraphKeys.GLOBAL_STEP, "`global_step`")):
        if name in spec.eval_metric_ops:
            raise ValueError(
                f"Metric with name {quoted} is not allowed, because Estimator already defines a default metric with "
                "the same name."
            )
    metrics = dict(sorted({**spec.eval_metric_ops, LOSS_METRIC: _v1.metrics.mean(spec.loss)}.items()))
    return tf.group(*(update for _, update in metrics.values())), {name: value for name, (value, _) in metrics.items()}
