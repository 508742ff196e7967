"""CheckpointHook: when a training is saved, and who is told."""

import logging
import math
from collections.abc import Sequence
from enum import Enum
from typing import Any

import tensorflow as tf

from runner.checkpoint.saving import Saves
from runner.checkpoint.writer import SaveOutcome
from runner.estimator.events import EventFile, write_graph_text
from runner.estimator.hooks.step_hook import FetchingStepHook
from runner.estimator.schedule import Schedule
from runner.storage.retry import Retry

__all__ = ["CheckpointHook", "FirstSave"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")

_LAST_SAVE = Retry(budget_secs=300.0, first_secs=5.0, longest_secs=30.0)
"""How long the last save is tried again while the store does not answer, beside what the store itself tries."""

_END_SECS = 60.0
"""How long the save in flight may go on when something else than its own end ends the training."""


class FirstSave(Enum):
    """What a training is saved at before anything is due."""

    NONE = "none"
    START = "start"  # as TensorFlow's CheckpointSaverHook does
    ITERATION = "iteration"


class CheckpointHook(FetchingStepHook):
    """Saves at first, by schedule, and at the end. Chief only.

    The training goes on while a checkpoint is written, unless there are listeners, who expect it to be published when
    they are told. A save that the store does not take is a warning, but for the last one.

    Args:
        step: The step tensor.
        saves: Where to save.
        schedule: When, in between. A schedule of steps counts from the step that the run began with, and waits for the
            save in flight. One of seconds counts from the end of the last save, so that a save that takes longer does
            not make every step save.
        first: When first. After the first iteration is too early in a job that only goes on.
        listeners: tf.compat.v1.train.CheckpointSaverListener, told of every save.
        events: Gets the graph and a CHECKPOINT entry for every save.
        graph_path: Where `graph.pbtxt` goes; None writes none.
        last_save: How long the last save is tried again while the store does not answer.
    """

    def __init__(
        self,
        step: Any,
        *,
        saves: Saves,
        schedule: Schedule,
        first: FirstSave,
        listeners: Sequence[Any],
        events: EventFile,
        graph_path: str | None,
        last_save: Retry = _LAST_SAVE,
    ) -> None:
        super().__init__(step)
        self._saves = saves
        self._schedule = schedule
        self._first = first
        self._save_next = False
        self._listeners = listeners
        self._events = events
        self._graph_path = graph_path
        self._last_save = last_save
        self._saved_step: int | None = None

    def begin(self) -> None:
        for listener in self._listeners:
            listener.begin()

    def after_create_session(self, session: Any, coord: Any) -> None:  # noqa: ARG002 - signature of the base
        step = int(session.run(_v1.train.get_global_step()))
        self._schedule.mark(step)
        if self._graph_path:
            write_graph_text(self._graph_path, session.graph)
        self._saves.prepare(session)
        self._save_next = self._first is FirstSave.ITERATION and not self._saves.goes_on
        if self._first is FirstSave.START:
            self.save(session, step)

    def next_due(self, step: int) -> float:
        if self._save_next or self._saves.has_news:
            return step + 1
        return math.inf if self._is_held_up else self._schedule.next_due(step)

    @property
    def _is_held_up(self) -> bool:
        return self._schedule.counts_secs and self._saves.is_saving

    def after_step(self, run_context: Any, step: int) -> None:
        self._take_news()
        is_due = not self._is_held_up and self._schedule.is_due(step)
        if is_due:
            self._schedule.mark(step)
        is_due = is_due or self._save_next
        if is_due and step == self._saved_step:
            _logger.warning(
                "Step %d is saved already, and a checkpoint is not replaced: what was trained since is in none. Let "
                "every update of the weights increase the global_step.",
                step,
            )
        elif is_due and self.save(run_context.session, step):
            run_context.request_stop()
        self._save_next = False

    def end(self, session: Any) -> None:
        step = int(session.run(_v1.train.get_global_step()))
        self._saves.tell_last(step)
        self._saves.wait()
        self._take_news()
        if step != self._saved_step:
            self.save_for_sure(session, step)
        for listener in self._listeners:
            listener.end(session, step)

    def save(self, session: Any, step: int) -> bool:
        """Saves; with listeners, waits for it, and returns whether one of them asks for the end of the training."""
        self._announce(session, step)
        self._saves.begin(session, step)
        if not self._listeners:
            return False
        self._saves.wait()
        self._take_news()
        return self._saved_step == step and self._tell_of_saved(session, step)

    def save_for_sure(self, session: Any, step: int) -> None:
        """Saves, waits for it, and tries again for some time if the store does not answer.

        Raises:
            StorageError: The model_dir has not taken it.
        """
        self._announce(session, step)
        self._last_save.call(lambda: self._save_once(session, step), f"save step {step} into {self._saves.basename}")
        self._tell_of_saved(session, step)

    def _save_once(self, session: Any, step: int) -> None:
        self._saves.begin(session, step)
        self._saves.wait()
        for outcome in self._saves.outcomes():
            self._note(outcome)
            if outcome.error is not None:
                raise outcome.error

    def close(self) -> None:
        """Ends all saves, before the session is closed: if something failed the one in flight has some time."""
        if self._saves.is_saving:
            _logger.info("Waiting for up to %g s until the last checkpoint is in %s.", _END_SECS, self._saves.basename)
        self._saves.finish(within_secs=_END_SECS)
        for outcome in self._saves.outcomes():
            self._note(outcome)
            if outcome.error is not None:
                _logger.warning(
                    "The checkpoint of step %d was not saved into %s before the training ended: %s",
                    outcome.step,
                    self._saves.basename,
                    outcome.error,
                )

    def _announce(self, session: Any, step: int) -> None:
        """Tells of a save that is about to begin, once there is none in flight any more."""
        self._saves.wait()
        self._take_news()
        if self._listeners:
            _logger.info("Calling checkpoint listeners before saving checkpoint %d...", step)
        for listener in self._listeners:
            listener.before_save(session, step)
        _logger.info("Saving checkpoints for %d into %s.", step, self._saves.basename)

    def _take_news(self) -> None:
        """Notes what became of saves, and raises the errors after which no later one can do better."""
        for outcome in self._saves.outcomes():
            self._note(outcome)
            if outcome.error is not None and outcome.ends_training:
                raise outcome.error
            if outcome.error is not None:
                _logger.warning(
                    "The checkpoint of step %d could not be saved into %s: %s The training goes on, and is saved again "
                    "when that is due.",
                    outcome.step,
                    self._saves.basename,
                    outcome.error,
                )

    def _note(self, outcome: SaveOutcome) -> None:
        self._schedule.restart_clock()
        if outcome.error is None:
            self._saved_step = outcome.step
            entry = _v1.SessionLog(status=_v1.SessionLog.CHECKPOINT, checkpoint_path=self._saves.basename)
            self._events.writer.add_session_log(entry, outcome.step)

    def _tell_of_saved(self, session: Any, step: int) -> bool:
        if self._listeners:
            _logger.info("Calling checkpoint listeners after saving checkpoint %d...", step)
        stops = [bool(listener.after_save(session, step)) for listener in self._listeners]
        if any(stops):
            _logger.info("A CheckpointSaverListener requested that training be stopped.")
        self._schedule.restart_clock()
        return any(stops)
