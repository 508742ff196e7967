"""The writer of a remote event file: events go to a local scratch file at once, and from there to the store."""

import logging
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.estimator.events.pieces import Piece, PieceNames
from runner.storage.directory import Directory

__all__ = ["PieceWriter"]

_logger = logging.getLogger("tensorflow")

_PIECE_BYTES = 4 << 20
_UPLOAD_EVERY_SECS = 5.0
_MOST_RETRY_SECS = 60.0


class PieceWriter:
    """Writes events to a directory of an object store, in pieces, since an object cannot be appended to.

    The current piece is uploaded again and again while it grows, until it is full and the next one begins. A thread
    does that: nothing waits for the store but `close`. While the store fails, events gather on the local disk. This is
    what a tf.compat.v1.summary.FileWriter writes to. Thread-safe.

    Args:
        directory: Where the pieces go.
        piece_bytes: A piece is full with at least so many bytes.
        upload_every_secs: The least time between two uploads of a piece that is not full. After an upload that failed
            it is the same, after each more in a row it doubles, up to a minute.
        clock: Monotonic seconds.
        now_ns: Nanoseconds since 1970.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        piece_bytes: int = _PIECE_BYTES,
        upload_every_secs: float = _UPLOAD_EVERY_SECS,
        clock: Callable[[], float] = time.monotonic,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._directory = directory
        self._piece_bytes = piece_bytes
        self._upload_every_secs = upload_every_secs
        self._clock = clock
        self._now_ns = now_ns
        self._changed = threading.Condition()
        self._pieces: deque[Piece] = deque()  # in the order of their events; all but the last are full
        self._thread: threading.Thread | None = None
        self._is_open = True
        self._drops = False
        self._has_given_up = False
        self._failures = 0
        self._upload_at = clock()
        self._names = PieceNames(now_ns())

    def get_logdir(self) -> str:
        """The URL of the directory."""
        return self._directory.url

    def reopen(self) -> None:
        """Makes a closed writer take events again, in pieces of a new name."""
        with self._changed:
            if not self._is_open:
                self._is_open = True
                self._has_given_up = False
                self._failures = 0
                self._upload_at = self._clock()
                self._names = PieceNames(self._now_ns())

    def add_event(self, event: Any) -> None:
        """Adds an Event, without waiting for the store; a writer that is closed ignores it."""
        with self._changed:
            if not self._is_open:
                return
            try:
                self._append(event.SerializeToString())
            except OSError as error:
                self._warn_of_drop(error)
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._upload_all, name="event-upload", daemon=True)
                self._thread.start()
            self._changed.notify()

    def flush(self) -> None:
        """Nothing: an event is safe from the end of the program when it is added, and uploaded when it is due."""

    def close(self) -> None:
        """Uploads what the store does not have yet, and waits for that. Idempotent.

        If the store fails the events are kept in a local directory, which a warning names.
        """
        with self._changed:
            self._is_open = False
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()
        with self._changed:
            self._keep_the_rest()
            self._thread = None

    def _append(self, event: bytes) -> None:
        if not self._pieces or self._pieces[-1].is_full:
            self._pieces.append(Piece(self._names.next()))
        piece = self._pieces[-1]
        piece.append(event)
        piece.is_full = piece.size_bytes >= self._piece_bytes

    def _warn_of_drop(self, error: OSError) -> None:
        if not self._drops:  # once: every step may have an event
            self._drops = True
            _logger.warning(
                "Events for %s are lost: they cannot be written to %s, where they wait for their upload: %s. Make room "
                "there, or set TMPDIR to another disk.",
                self.get_logdir(),
                tempfile.gettempdir(),
                error,
            )

    def _upload_all(self) -> None:
        while (piece := self._next_due()) is not None:
            self._upload(piece)

    def _next_due(self) -> Piece | None:
        """Waits for a piece that is due; None once the writer is closed and nothing is left that can be uploaded."""
        with self._changed:
            while True:
                piece = self._pieces[0] if self._pieces and not self._pieces[0].is_uploaded else None
                if not self._is_open:
                    return None if self._has_given_up else piece
                if piece is None:
                    self._changed.wait()
                    continue
                # A full piece is uploaded only once more: it need not wait.
                wait_secs = 0 if piece.is_full and not self._failures else self._upload_at - self._clock()
                if wait_secs <= 0:
                    return piece
                self._changed.wait(wait_secs)

    def _upload(self, piece: Piece) -> None:
        with self._changed:
            size_bytes, is_full, is_last_try = piece.size_bytes, piece.is_full, not self._is_open
        try:
            self._directory.write_bytes(piece.name, piece.read(size_bytes))
        except OSError as error:
            self._note_failure(error)
            self._has_given_up = is_last_try
            return
        with self._changed:
            piece.uploaded_bytes = size_bytes
            if is_full:
                self._pieces.popleft().close()
        self._note_success()

    def _note_failure(self, error: OSError) -> None:
        self._failures += 1
        pause_secs = min(self._upload_every_secs * 2 ** (self._failures - 1), _MOST_RETRY_SECS)
        self._upload_at = self._clock() + pause_secs
        if self._failures == 1:
            _logger.warning(
                "Events for %s cannot be uploaded: %s. They are kept on the local disk, and tried again until they "
                "are; the training goes on.",
                self.get_logdir(),
                error,
            )

    def _note_success(self) -> None:
        if self._failures:
            _logger.info("Events for %s are uploaded again, none is lost.", self.get_logdir())
        self._failures = 0
        self._upload_at = self._clock() + self._upload_every_secs

    def _keep_the_rest(self) -> None:
        if rest := [piece for piece in self._pieces if not piece.is_uploaded]:
            folder = Path(tempfile.mkdtemp(prefix="events-"))
            for piece in rest:
                piece.keep(folder)
            _logger.warning(
                "The last events for %s could not be uploaded. They are in %s on this machine: copy its files there "
                "if you want them in TensorBoard.",
                self.get_logdir(),
                folder,
            )
        while self._pieces:
            self._pieces.popleft().close()
