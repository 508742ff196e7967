"""Saves: the checkpoints that one training makes of its session, from the snapshot to what became of each."""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from runner.checkpoint.fence import Fence
from runner.checkpoint.inventory import CHECKPOINT_BASENAME
from runner.checkpoint.retention import KeepBest, Retention
from runner.checkpoint.snapshot import Snapshots
from runner.checkpoint.state import CheckpointState
from runner.checkpoint.writer import CheckpointWriter, SaveListener, SaveOutcome
from runner.storage.urls import join, open_directory, resolve_model_dir

__all__ = ["Saves"]


class Saves:
    """The saves of one training, of which one at a time is in flight. Chief only; for the training thread.

    Args:
        model_dir: As the user gave it: a path or a URL.
        saver: A tf.compat.v1.train.Saver of the graph, built by the time of `claim`; its settings are the retention.
        save_graph_def: Whether `.meta` is written beside every checkpoint.
        service: RunConfig.service: job, generation and code of a task of a job. Without one the process itself is the
            owner of its checkpoints, in the next generation of the model_dir.
        listeners: Told of every save, by the threads that write.
        keep_best: Which checkpoint is kept beyond the newest; None keeps none.
    """

    def __init__(
        self,
        model_dir: str,
        saver: Any,
        *,
        save_graph_def: bool = True,
        service: Mapping[str, Any] | None = None,
        listeners: Sequence[SaveListener] = (),
        keep_best: KeepBest | None = None,
    ) -> None:
        self._model_dir = model_dir
        self._keep_best = keep_best
        self._saver = saver
        self._save_graph_def = save_graph_def
        self._service = service or {}
        self._listeners = listeners
        self._graph: bytes | None = None
        self._snapshots: Snapshots | None = None
        self._writer: CheckpointWriter | None = None
        self.fence: Fence | None = None

    @property
    def basename(self) -> str:
        """Path or URL of every checkpoint without `-<step>`."""
        return join(self._model_dir, CHECKPOINT_BASENAME)

    @property
    def goes_on(self) -> bool:
        """Whether the training goes on with one that this job began, in an earlier generation or before in this one."""
        job = self._service.get("job")
        return job is not None and self.fence is not None and self.fence.previous_owner == job

    def claim(self) -> CheckpointState | None:
        """Raises the fence: from now on no older writer can publish. Comes before anything is restored.

        Returns:
            What is published; None if nothing is.

        Raises:
            StaleGenerationError: A later generation of the same job has claimed the model_dir.
            ModelDirInUseError: Another owner has, with a generation that is not lower.
        """
        directory = open_directory(resolve_model_dir(self._model_dir))
        settings = self._saver.saver_def
        self.fence = Fence(
            directory,
            owner=self._service.get("job") or _owner_without_job(),
            generation=self._service.get("generation"),
            retention=Retention(settings.max_to_keep, settings.keep_checkpoint_every_n_hours, self._keep_best),
            code=self._service.get("code"),
        )
        self._writer = CheckpointWriter(directory, self.fence, listeners=self._listeners)
        return self.fence.raise_()

    def prepare(self, session: Any) -> None:
        """Makes a session ready for saves, so that the first one does not take longer than the others.

        The `.meta` of all checkpoints holds the graph as it is now: what is added later is no model.
        """
        if self._snapshots is not None:
            return
        if self._save_graph_def:
            with session.graph.as_default():
                self._graph = self._saver.export_meta_graph().SerializeToString()
        self._snapshots = Snapshots(self._saver, session)

    @property
    def is_saving(self) -> bool:
        """Whether a save is in flight."""
        return self._writer is not None and self._writer.is_saving

    @property
    def has_news(self) -> bool:
        """Whether `outcomes` would return any; costs next to nothing."""
        return self._writer is not None and self._writer.has_news

    def begin(self, session: Any, step: int) -> None:
        """Takes a snapshot, and has it written and published; first waits for the save in flight.

        Raises:
            tf.errors.OpError: The state cannot be read.
        """
        self.prepare(session)
        self.wait()
        assert self._snapshots is not None
        self._open_writer().start(self._snapshots.take(step), step=step, graph=self._graph)

    def wait(self) -> None:
        """Waits for the save in flight."""
        self._open_writer().wait()

    def tell_last(self, step: int) -> None:
        """Tells the listeners that the training is done, and waits for its last checkpoint."""
        for listener in self._listeners:
            listener.on_last_save(step)

    def outcomes(self) -> list[SaveOutcome]:
        """What became of the saves since the last call."""
        return self._open_writer().outcomes()

    def save(self, session: Any, step: int) -> str:
        """Saves while the training waits.

        Returns:
            The prefix of the checkpoint.

        Raises:
            StorageError: The model_dir did not take it.
        """
        self.begin(session, step)
        self.wait()
        for outcome in self.outcomes():
            if outcome.error is not None:
                raise outcome.error
        return f"{self.basename}-{step}"

    def finish(self, *, within_secs: float) -> None:
        """Ends for good, before the session is closed; gives the save in flight up after that time. Idempotent."""
        if self._writer is not None:
            self._writer.finish(within_secs=within_secs)

    def _open_writer(self) -> CheckpointWriter:
        if self._writer is None:
            raise ValueError("The model_dir has not been claimed.")
        return self._writer


def _owner_without_job() -> str:
    return re.sub(r"\s", "-", f"local-{socket.gethostname()}-{os.getpid()}")
