"""CheckpointHook: when a training is saved, and who is told."""

import logging
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from runner.checkpoint.saver import Checkpoints
from runner.estimator.events import EventFile, write_graph_text
from runner.estimator.hooks.step_hook import FetchingStepHook
from runner.estimator.schedule import Schedule

__all__ = ["CheckpointHook"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


class CheckpointHook(FetchingStepHook):
    """Saves after the first iteration, by schedule, and at the end. Chief only.

    Args:
        step: The step tensor.
        checkpoints: Where to save.
        schedule: When, in between. A schedule of steps counts from the step that the run began with, one of seconds
            from the end of the last save, so that a save that takes longer does not make every step save.
        save_first: Whether to save after the first iteration.
        listeners: tf.compat.v1.train.CheckpointSaverListener, told of every save.
        events: Gets the graph and a CHECKPOINT entry for every save.
        graph_path: Where `graph.pbtxt` goes; None writes none.
    """

    def __init__(
        self,
        step: Any,
        *,
        checkpoints: Checkpoints,
        schedule: Schedule,
        save_first: bool,
        listeners: Sequence[Any],
        events: EventFile,
        graph_path: str | None,
    ) -> None:
        super().__init__(step)
        self._checkpoints = checkpoints
        self._schedule = schedule
        self._save_next = save_first
        self._listeners = listeners
        self._events = events
        self._graph_path = graph_path
        self._saved_step: int | None = None

    def begin(self) -> None:
        for listener in self._listeners:
            listener.begin()

    def after_create_session(self, session: Any, coord: Any) -> None:  # noqa: ARG002 - signature of the base
        self._schedule.mark(int(session.run(_v1.train.get_global_step())))
        self._checkpoints.keep_graph()
        if self._graph_path:
            write_graph_text(self._graph_path, session.graph)

    def next_due(self, step: int) -> float:
        return step + 1 if self._save_next else self._schedule.next_due(step)

    def after_step(self, run_context: Any, step: int) -> None:
        is_due = self._schedule.is_due(step)
        if is_due:
            self._schedule.mark(step)
        if (is_due or self._save_next) and self.save(run_context.session, step):
            run_context.request_stop()
        self._save_next = False

    def end(self, session: Any) -> None:
        step = int(session.run(_v1.train.get_global_step()))
        if step != self._saved_step:
            self.save(session, step)
        for listener in self._listeners:
            listener.end(session, step)

    def save(self, session: Any, step: int) -> bool:
        """Saves, and returns whether a listener asks for the end of the training."""
        if self._listeners:
            _logger.info("Calling checkpoint listeners before saving checkpoint %d...", step)
        for listener in self._listeners:
            listener.before_save(session, step)
        _logger.info("Saving checkpoints for %d into %s.", step, self._checkpoints.basename)
        self._checkpoints.save(session, step)
        self._saved_step = step
        entry = _v1.SessionLog(status=_v1.SessionLog.CHECKPOINT, checkpoint_path=self._checkpoints.basename)
        self._events.writer.add_session_log(entry, step)
        if self._listeners:
            _logger.info("Calling checkpoint listeners after saving checkpoint %d...", step)
        stops = [bool(listener.after_save(session, step)) for listener in self._listeners]
        if any(stops):
            _logger.info("A CheckpointSaverListener requested that training be stopped.")
        self._schedule.restart_clock()
        return any(stops)
