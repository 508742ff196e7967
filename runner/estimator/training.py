"""One call of train(): the graph is built, restored or initialized, and run step by step to its end."""

import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow.python.training import training_util

from runner.checkpoint.saver import Checkpoints, as_saver
from runner.checkpoint.selection import restorable
from runner.estimator.checkpointing import Checkpointing
from runner.estimator.events import EventFile, remote_writers
from runner.estimator.hooks.outputs import check_outputs
from runner.estimator.hooks.progress_hook import publish_progress
from runner.estimator.hooks.training_hooks import (
    GraphHook,
    LossHook,
    NanHook,
    StepRateHook,
    StopHook,
    SummaryHook,
)
from runner.estimator.inputs.batch import Batch, call_input_fn, make_batch, takes_input_context
from runner.estimator.inputs.pipeline import read_ahead
from runner.estimator.model_fn import EstimatorSpec, ModeKeys
from runner.estimator.remote import is_remote
from runner.estimator.replicas.replicas import Replicas, replicas_of
from runner.estimator.run_config import RunConfig
from runner.estimator.session import HookedSession, create_session
from runner.estimator.step_loop import StepLoop
from runner.estimator.warm_start import WarmStartSettings, warm_start

__all__ = ["Training"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


@dataclass
class Training:
    """What train() was asked to do.

    Attributes:
        model_dir: Where checkpoints and events go.
        config: The estimator's.
        params: The estimator's.
        call_model_fn: (features, labels, mode) -> EstimatorSpec.
        input_fn: The user's.
        hooks: The user's, for every task.
        saving_listeners: Told of every save, on the chief.
        steps: Stop after that many more steps; or
        max_steps: stop at that global_step. With neither, the end of the input ends the training.
        warm_start_settings: Where the initial weights come from, if there are any and model_dir has no checkpoint.
    """

    model_dir: str
    config: RunConfig
    params: dict[str, Any]
    call_model_fn: Callable[[Any, Any, str], EstimatorSpec]
    input_fn: Callable[..., Any]
    hooks: Sequence[Any] = ()
    saving_listeners: Sequence[Any] = ()
    steps: int | None = None
    max_steps: int | None = None
    warm_start_settings: WarmStartSettings | None = None
    _stack: ExitStack = field(default_factory=ExitStack, init=False)

    def run(self) -> float | None:
        """Trains.

        Returns:
            The loss of the last step; None if there was none.

        Raises:
            tf.errors.InvalidArgumentError: The latest checkpoint does not fit the model.
            PeerLostError: Another task of the cluster is gone.
        """
        replicas = replicas_of(self.config)
        self._stack.enter_context(remote_writers())
        with self._stack, replicas.errors(), tf.Graph().as_default() as graph, graph.device(self.config.device_fn):
            loss = self._run_graph(replicas)
            replicas.finish()
        if loss is None and replicas.count > 1:
            _logger.warning("The training ended before its first step: the input of at least one task has no batch.")
        return loss

    def _run_graph(self, replicas: Replicas) -> float | None:
        batch = self._batch(replicas)
        spec, loss = self._spec(replicas, batch)
        if batch.initializer is not None:
            read_ahead(batch.initializer)
        # The other tasks of a cluster restore what the chief starts from.
        if self.warm_start_settings is not None and replicas.is_chief and not restorable(self.model_dir):
            warm_start(self.warm_start_settings, self._stack)
        with tf.control_dependencies([spec.train_op]):
            step = tf.identity(_v1.train.get_global_step().read_value())
        publish_progress(step, loss)
        saver = _saver(self.config, spec.scaffold)
        events = EventFile(self.model_dir)
        hooks = self._hooks(spec, step=step, loss=loss, replicas=replicas)
        checkpointing = None
        if replicas.is_chief:
            checkpointing = self._checkpointing(spec, saver, events, hooks, step=step, has_workers=replicas.count > 1)
            # As in the original, a step is saved, and may be evaluated, before the user's hooks are told of it.
            chief_hooks = self._chief_hooks(spec, checkpointing, events, step=step)
            hooks = checkpointing.placed([*spec.training_chief_hooks, *chief_hooks, *hooks])
        hooks = [*batch.hooks, NanHook(loss), *hooks]
        check_outputs(hooks)
        if replicas.is_chief and is_remote(self.model_dir):
            self._open(events)  # before a user's hook asks for the writer, for all have one file
        for hook in hooks:
            hook.begin()
        spec.scaffold.finalize()
        session = self._open_session(spec.scaffold, saver, replicas, checkpointing, events)
        self._stack.callback(session.close)
        if replicas.is_chief:
            self._open(events)
        before_close = checkpointing.close if checkpointing else lambda: None
        hooked = HookedSession(session, hooks, before_close=before_close)
        return StepLoop(hooked, train_op=spec.train_op, loss=loss, step=step).run()

    def _open(self, events: EventFile) -> None:
        if events.writer is None:
            self._stack.enter_context(events)

    def _batch(self, replicas: Replicas) -> Batch:
        """The input, built under the seed that all replicas share and before anything in which they differ."""
        if replicas.data_seed is not None:
            _v1.set_random_seed(replicas.data_seed)
        _v1.train.create_global_step()
        # Unused here. Seeds of operations count those before them: with as many as in the original, a tf_random_seed
        # makes the initial values that it made there.
        training_util._get_or_create_global_step_read()  # noqa: SLF001
        with tf.device("/cpu:0"):
            result = call_input_fn(
                self.input_fn,
                mode=ModeKeys.TRAIN,
                params=self.params,
                config=self.config,
                input_context=replicas.input_context(),
            )
            return make_batch(result if takes_input_context(self.input_fn) else replicas.shard(result))

    def _spec(self, replicas: Replicas, batch: Batch) -> tuple[EstimatorSpec, Any]:
        """What model_fn made of the batch, and the loss to show: its mean over the replicas."""
        if replicas.model_seed is not None:
            _v1.set_random_seed(replicas.model_seed)
        if (averager := replicas.averager) is None:
            spec = self.call_model_fn(batch.features, batch.labels, ModeKeys.TRAIN)
            loss = spec.loss
        else:
            with averager.intercepting():
                spec = self.call_model_fn(batch.features, batch.labels, ModeKeys.TRAIN)
            loss = averager.complete(spec.train_op, spec.loss, (batch.features, batch.labels))
        _v1.add_to_collection(_v1.GraphKeys.LOSSES, spec.loss)
        if not any(summary.op.name == "loss" for summary in _v1.get_collection(_v1.GraphKeys.SUMMARIES)):
            _v1.summary.scalar("loss", loss)
        return spec, loss

    def _hooks(self, spec: EstimatorSpec, *, step: Any, loss: Any, replicas: Replicas) -> list[Any]:
        hooks = [*self.hooks]
        if self.config.log_step_count_steps is not None:  # between the two, as in the log of the original
            hooks.append(LossHook(step, loss, every_steps=self.config.log_step_count_steps))
        hooks += spec.training_hooks
        if not replicas.is_chief:  # the chief alone writes checkpoints, whoever brings the hook
            hooks = [hook for hook in hooks if not isinstance(hook, _v1.train.CheckpointSaverHook)]
        if replicas.count > 1 and any(isinstance(hook, _v1.train.GlobalStepWaiterHook) for hook in hooks):
            _logger.warning("Leaving out GlobalStepWaiterHook: the chief, in lock-step, would wait for this task too.")
            hooks = [hook for hook in hooks if not isinstance(hook, _v1.train.GlobalStepWaiterHook)]
        if self.steps is not None or self.max_steps is not None:
            hooks.append(StopHook(step, steps=self.steps, max_steps=self.max_steps))
        return hooks

    def _checkpointing(
        self, spec: EstimatorSpec, saver: Any, events: EventFile, hooks: Sequence[Any], *, step: Any, has_workers: bool
    ) -> Checkpointing:
        checkpointing = Checkpointing(
            self.model_dir,
            self.config,
            saver,
            step=step,
            events=events,
            brought=[*hooks, *spec.training_chief_hooks],
            listeners=self.saving_listeners,
            has_workers=has_workers,
        )
        self._lend_listeners(checkpointing.left_alone)
        return checkpointing

    def _chief_hooks(
        self, spec: EstimatorSpec, checkpointing: Checkpointing, events: EventFile, *, step: Any
    ) -> list[Any]:
        config = self.config
        hooks = [GraphHook(events, spec.scaffold), *checkpointing.own_hooks]
        if config.log_step_count_steps is not None:
            hooks.append(StepRateHook(step, every_steps=config.log_step_count_steps, events=events))
        if config.save_summary_steps:
            hooks.append(SummaryHook(step, spec.scaffold, every_steps=config.save_summary_steps, events=events))
        return hooks

    def _open_session(
        self, scaffold: Any, saver: Any, replicas: Replicas, checkpointing: Checkpointing | None, events: EventFile
    ) -> Any:
        """A session with the state of the latest checkpoint; where there is none, with initial weights.

        In a cluster the chief, who alone has a checkpointing, selects: it publishes step 0 if there is nothing to
        restore yet, and the others restore exactly the step that it tells.
        """
        checkpoints, config = Checkpoints(self.model_dir, saver), self.config.session_config
        loaded, prefix, session = None, None, None
        if checkpointing is not None:
            checkpointing.claim()
            loaded = checkpoints.load_latest(set_aside=checkpointing.set_aside)
            prefix = None if loaded is None else loaded.prefix
            if loaded is not None and replicas.count > 1 and not checkpoints.is_own(loaded.prefix):
                raise ValueError(
                    f"The workers restore model.ckpt-<step> from model_dir; the latest checkpoint is {loaded.prefix}."
                )
            if loaded is None and replicas.count > 1:
                session = create_session(scaffold, config=config)
                self._stack.callback(session.close)
                self._open(events)
                self._stack.callback(checkpointing.close)  # an interrupt may leave a save in flight
                prefix = checkpointing.save_start(session)
        restored_step = replicas.agree_on_restore(prefix, checkpoints.wanted)
        if session is not None:
            return session
        if loaded is None and restored_step is not None:
            loaded = checkpoints.load(checkpoints.at_step(restored_step), training=True)
        restore = None if loaded is None else functools.partial(checkpoints.restore, loaded=loaded)
        return create_session(scaffold, restore=restore, config=config)

    def _lend_listeners(self, hook: Any) -> None:
        """Adds the saving listeners to those of a user's hook, which may be used again, for this run only."""
        if hook is None:
            return
        listeners = hook._listeners  # noqa: SLF001 - as the original does
        before = list(listeners)
        listeners.extend(listener for listener in self.saving_listeners if listener not in before)
        self._stack.callback(listeners.__setitem__, slice(None), before)


def _saver(config: RunConfig, scaffold: Any) -> Any:
    """The saver of the scaffold, or the default one with the retention of the config."""
    savers = _v1.get_collection(_v1.GraphKeys.SAVERS)
    scaffold._saver = as_saver(scaffold.saver)  # noqa: SLF001 - as its finalize() does, which is later
    if scaffold.saver or savers:
        return scaffold.saver or savers[0]
    saver = _v1.train.Saver(
        sharded=True,
        max_to_keep=config.keep_checkpoint_max,
        keep_checkpoint_every_n_hours=config.keep_checkpoint_every_n_hours,
        defer_build=True,
        save_relative_paths=True,
    )
    _v1.add_to_collection(_v1.GraphKeys.SAVERS, saver)
    return saver
