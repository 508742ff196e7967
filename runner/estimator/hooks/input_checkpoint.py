"""Checkpoints of the input: a training that goes on reads on where it was, and not from the beginning."""

import logging
import os
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.data.experimental.ops.iterator_ops import _convert_external_state_policy_to_enum
from tensorflow.python.data.ops.iterator_ops import GLOBAL_ITERATORS, _IteratorSaveable

from runner.checkpoint.listing import INPUT_BASENAME, step_of
from runner.errors import StorageError
from runner.estimator.estimator import Estimator
from runner.estimator.hooks.input_files import input_files
from runner.estimator.hooks.progress_hook import published_step
from runner.estimator.hooks.step_hook import StepHook
from runner.estimator.schedule import Schedule

__all__ = ["CheckpointInputPipelineHook"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


class CheckpointInputPipelineHook(StepHook):
    """Saves the state of the input beside every checkpoint, and restores that of the step the training begins with.

    The files are `input.ckpt-<step>.*` and `checkpoint_input` in model_dir; in a cluster each task has its own,
    `input_<task_type>_<task_id>.ckpt-<step>.*`. They hold the buffers of the pipeline too, a shuffle's for one, and can
    be large; to a remote model_dir they are uploaded in the thread that trains. A re-creation of
    tf.data.experimental.CheckpointInputPipelineHook, which TensorFlow no longer has.

    Args:
        estimator: The estimator that trains with the hook; its config says when is saved, and how many are kept.
        external_state_policy: What to do about a dataset whose state is not all its own, such as one that calls a
            Python function: "fail" (None means that too), "warn" or "ignore".

    Raises:
        ValueError: There is no such policy. When the training starts: input_fn has returned no dataset.
    """

    def __init__(self, estimator: Estimator, external_state_policy: str | None = None) -> None:
        config = estimator.config
        task = f"_{config.task_type}_{config.task_id}" if config.num_worker_replicas > 1 else ""
        self._policy = _convert_external_state_policy_to_enum(external_state_policy or "fail")
        self._model_dir = estimator.model_dir
        self._name = f"{INPUT_BASENAME}{task}"
        self._config = config

    def begin(self) -> None:
        """Adds the operations that save and restore."""
        iterators = _v1.get_collection(GLOBAL_ITERATORS)
        if not iterators:
            raise ValueError("CheckpointInputPipelineHook needs an input_fn that returns a tf.data.Dataset.")
        self._step = published_step()
        self._saver = _v1.train.Saver(
            [_IteratorSaveable(each, each.name, external_state_policy=self._policy) for each in iterators],
            sharded=True,
            max_to_keep=self._config.keep_checkpoint_max,
            keep_checkpoint_every_n_hours=self._config.keep_checkpoint_every_n_hours,
            save_relative_paths=True,
        )
        self._schedule = Schedule(
            every_steps=self._config.save_checkpoints_steps, every_secs=self._config.save_checkpoints_secs
        )
        self._files = input_files(self._model_dir, self._name)
        self._is_first = True
        self._saved_step: int | None = None

    def next_due(self, step: int) -> float:
        """The next step that is saved."""
        return step + 1 if self._is_first else self._schedule.next_due(step)

    def before_run(self, run_context: Any) -> Any:
        """Restores, once all hooks have made the session ready, of which one initializes the input."""
        if self._is_first:
            step = int(run_context.session.run(_v1.train.get_global_step()))
            self._restore(run_context.session, step)
            self._schedule.mark(step)
        return _v1.train.SessionRunArgs(self._step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Saves, when the model is saved too: after the first step, and by the schedule."""
        step = int(run_values.results)
        is_due = self._schedule.is_due(step)
        if is_due:
            self._schedule.mark(step)
        if is_due or self._is_first:
            self._save(run_context.session, step)
        self._is_first = False

    def end(self, session: Any) -> None:
        """Saves the last state."""
        step = int(session.run(_v1.train.get_global_step()))
        if step != self._saved_step:
            self._save(session, step, is_last=True)

    @property
    def _basename(self) -> str:
        return os.path.join(self._model_dir, f"{self._name}.ckpt")

    def _save(self, session: Any, step: int, *, is_last: bool = False) -> None:
        files = self._files
        _logger.info("Saving checkpoints for %d into %s.", step, self._basename)
        Path(files.folder).mkdir(parents=True, exist_ok=True)
        self._saver.save(
            session, files.basename, global_step=step, latest_filename=files.state_name, write_meta_graph=False
        )
        try:
            files.publish()
        except StorageError as error:
            if is_last:
                raise
            _logger.warning("The input of step %d is not saved, and the training goes on: %s", step, error)
        else:
            self._saved_step = step
        self._schedule.restart_clock()

    def _restore(self, session: Any, step: int) -> None:
        files = self._files
        state = files.state()
        if state is None:
            return
        written = [(path, files.written_at(path)) for path in state.all_model_checkpoint_paths]
        self._saver.set_last_checkpoints_with_time([(path, at) for path, at in written if at is not None])
        path = f"{files.basename}-{step}"
        if files.written_at(path) is None:
            # The two are written one after the other, and a training may be killed in between.
            path = state.model_checkpoint_path
            _logger.warning(
                "The input has no checkpoint of step %d; it goes on from that of step %s.", step, step_of(path)
            )
        files.fetch(path)
        self._saver.restore(session, path)
