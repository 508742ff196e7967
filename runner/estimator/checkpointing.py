"""How one training is saved: by whose hook, when, and into what."""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import tensorflow as tf

from runner.checkpoint.inventory import CHECKPOINT_BASENAME
from runner.checkpoint.saving import Saves
from runner.checkpoint.writer import SaveListener
from runner.errors import CheckpointNotFoundError
from runner.estimator.events import EventFile
from runner.estimator.hooks.checkpoint_hook import CheckpointHook, FirstSave
from runner.estimator.hooks.keep_best_hook import KeepBestHook
from runner.estimator.remote import is_remote
from runner.estimator.run_config import RunConfig
from runner.estimator.schedule import Schedule
from runner.storage.urls import resolve_model_dir

__all__ = ["Checkpointing"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


class Checkpointing:
    """The saves of one training and the hook that makes them. Chief only; made before the graph is finalized.

    That is our hook, unless the user has brought one. A tf.compat.v1.train.CheckpointSaverHook on the model_dir gives
    its schedule and its listeners to one of ours, which takes its place. One of another class, or on another directory,
    is left alone: it writes as it does, onto a local disk.

    Args:
        model_dir: As the user gave it.
        config: The estimator's.
        saver: Of the scaffold, or the default one.
        step: The step tensor.
        events: Gets a CHECKPOINT entry for every save.
        brought: All hooks of the user.
        listeners: The saving listeners of the training.
        has_workers: Whether it has, who start from a checkpoint.

    Raises:
        ValueError: There are listeners, and nothing saves.
    """

    def __init__(
        self,
        model_dir: str,
        config: RunConfig,
        saver: Any,
        *,
        step: Any,
        events: EventFile,
        brought: Sequence[Any],
        listeners: Sequence[Any],
        has_workers: bool,
    ) -> None:
        self._has_workers = has_workers
        theirs = [hook for hook in brought if isinstance(hook, _v1.train.CheckpointSaverHook)]
        self._replaced = next((hook for hook in theirs[:1] if _is_on(hook, model_dir)), None)
        self.left_alone = None if self._replaced else next(iter(theirs), None)
        _check(self.left_alone, model_dir)
        saves_graph = config.checkpoint_save_graph_def
        if self._replaced is not None:
            saver = self._replaced._saver or saver  # noqa: SLF001 - it has no public way to tell
            saves_graph = self._replaced._save_graph_def  # noqa: SLF001
        self.saves = Saves(
            model_dir,
            saver,
            save_graph_def=saves_graph,
            service=config.service,
            listeners=[hook for hook in brought if isinstance(hook, SaveListener)],
            keep_best=next((hook.policy for hook in brought if isinstance(hook, KeepBestHook)), None),
        )
        self._graph_path = os.path.join(model_dir, "graph.pbtxt") if saves_graph else None
        self._step, self._events = step, events
        self.hook = self._make_hook(config, listeners)

    def placed(self, hooks: Sequence[Any]) -> list[Any]:
        """The hooks, with ours in the place of one of the user that it replaces."""
        return [self.hook if hook is self._replaced else hook for hook in hooks]

    @property
    def own_hooks(self) -> list[Any]:
        """Our hook, where it takes the place of none."""
        return [] if self.hook is None or self._replaced is not None else [self.hook]

    def claim(self) -> None:
        """Raises the fence of the model_dir, if anything is going to be saved; see Saves.claim."""
        if self.hook is not None or self._has_workers:
            self.saves.claim()

    def set_aside(self, basenames: Sequence[str]) -> None:
        """Takes checkpoints that cannot be restored out of `checkpoint`, unless it names no other."""
        if self.saves.fence is not None:
            with suppress(CheckpointNotFoundError):
                self.saves.fence.set_aside(basenames)

    def save_start(self, session: Any) -> str:
        """Saves what the workers of a cluster start from; like any save it is told to listeners and in the events.

        Returns:
            The prefix of the checkpoint.
        """
        step = int(session.run(_v1.train.get_global_step()))
        if self.hook is not None:
            self.hook.save_for_sure(session, step)  # a listener that asks for the end is not heard yet
            return f"{self.saves.basename}-{step}"
        _logger.info("Saving checkpoints for %d into %s.", step, self.saves.basename)
        return self.saves.save(session, step)

    def close(self) -> None:
        """Ends the saves, before the session is closed."""
        if self.hook is not None:
            self.hook.close()

    def _make_hook(self, config: RunConfig, listeners: Sequence[Any]) -> CheckpointHook | None:
        if self.left_alone is not None:
            return None
        if self._replaced is not None:
            timer, theirs = self._replaced._timer, self._replaced._listeners  # noqa: SLF001
            schedule = Schedule(every_steps=timer._every_steps, every_secs=timer._every_secs)  # noqa: SLF001
            listeners = [*theirs, *(listener for listener in listeners if listener not in theirs)]
            return self._hook(schedule, listeners, first=FirstSave.START)
        if not (config.save_checkpoints_steps or config.save_checkpoints_secs):
            if listeners:
                raise ValueError(
                    "There should be a CheckpointSaverHook to use saving_listeners. Please set one of the "
                    "RunConfig.save_checkpoints_steps or RunConfig.save_checkpoints_secs."
                )
            return None
        _logger.info("Create CheckpointSaverHook.")
        schedule = Schedule(every_steps=config.save_checkpoints_steps, every_secs=config.save_checkpoints_secs)
        # The workers of a cluster start from step 0.
        return self._hook(schedule, listeners, first=FirstSave.NONE if self._has_workers else FirstSave.ITERATION)

    def _hook(self, schedule: Schedule, listeners: Sequence[Any], *, first: FirstSave) -> CheckpointHook:
        return CheckpointHook(
            self._step,
            saves=self.saves,
            schedule=schedule,
            first=first,
            listeners=listeners,
            events=self._events,
            graph_path=self._graph_path,
        )


def _is_on(hook: Any, model_dir: str) -> bool:
    """Whether that is TensorFlow's own hook, with nothing added by a subclass, and saves what we would save."""
    if type(hook) is not _v1.train.CheckpointSaverHook:
        return False
    directory, basename = os.path.split(hook._save_path)  # noqa: SLF001 - it has no public way to tell
    return basename == CHECKPOINT_BASENAME and resolve_model_dir(directory) == resolve_model_dir(model_dir)


def _check(hook: Any, model_dir: str) -> None:
    if hook is not None and is_remote(model_dir):
        raise ValueError(
            f"{type(hook).__name__} cannot save a training whose model_dir is {model_dir}: it writes local files only. "
            "Leave it out: the Estimator saves by save_checkpoints_steps or save_checkpoints_secs of its RunConfig, "
            "and saving_listeners of train() are told of it."
        )
