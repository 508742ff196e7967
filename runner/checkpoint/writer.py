"""CheckpointWriter: one checkpoint at a time is written to a model_dir and published, while the training goes on."""

import logging
import os
import secrets
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from runner.checkpoint.bundle.entries import Index, TensorEntry, data_name, index_bytes, index_name
from runner.checkpoint.bundle.layout import Layout, Piece, Shard, Tensor, layout, local_shards, parts
from runner.checkpoint.bundle.varint import encode_varint
from runner.checkpoint.fence import Fence
from runner.checkpoint.inventory import CHECKPOINT_BASENAME
from runner.errors import CheckpointSupersededError, StorageError
from runner.storage.directory import Directory, Upload

__all__ = ["CheckpointWriter", "SaveListener", "SaveOutcome", "Source"]

_logger = logging.getLogger(__name__)

_THREADS = 2
_NICE = 5
"""By how much the threads of a save stand back: the update that copies the variables does not wait for them."""

_MOST_NICE = 19
_NONCE_BYTES = 16
_NONCE_FIELD = 1000
"""Of the protos in `.index` and `.meta`, which have no field of that number: readers skip it."""

_LAST_WORD_SECS = 5.0
"""How long a save that was given up may take to notice it."""

T = TypeVar("T")


class Source(Protocol):
    """What a checkpoint is written from: a Snapshot."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """What is to be written, in the order of the bytes."""

    @property
    def parents(self) -> Sequence[TensorEntry]:
        """The tensors that some of `tensors` are slices of."""

    @property
    def checksums(self) -> Mapping[str, int]:
        """The crc32c of entries that is not that of their bytes, by name."""

    @property
    def bundles(self) -> Sequence[str]:
        """Prefixes of bundles on the local disk that become part of the checkpoint."""

    def read(self, tensor: Tensor, start: int, stop: int) -> memoryview:
        """Bytes of a tensor; called by several threads."""

    def release(self) -> None:
        """Gives the memory back; called once, when nothing is read any more."""


class SaveListener:
    """Is told what becomes of saves, by the threads that write: to override, and not to block."""

    def on_saved(self, step: int) -> None:
        """The checkpoint of that step is published."""

    def on_save_failed(self, step: int, error: Exception) -> None:
        """That one is not, and the training goes on; the next one is tried when it is due."""

    def on_last_save(self, step: int) -> None:
        """The training is done, and waits for its last checkpoint; called by its own thread."""


@dataclass(frozen=True)
class SaveOutcome:
    """What became of a save.

    Attributes:
        step: Its step.
        error: Why it failed; None: the checkpoint is published.
    """

    step: int
    error: BaseException | None = None

    @property
    def ends_training(self) -> bool:
        """Whether no later save can do better: the model_dir is another's now, or there is a defect."""
        return self.error is not None and not isinstance(self.error, StorageError)


class CheckpointWriter:
    """Writes checkpoints in threads of its own, which end with each save. For one training thread.

    The data files are uploaded first, then `.meta`, then `.index`, which makes the checkpoint exist, and `checkpoint`
    last, which publishes it. Tensors go from their memory to the store without a copy.

    Args:
        directory: The model_dir.
        fence: Of the same; raised.
        listeners: Told of every save.
    """

    def __init__(self, directory: Directory, fence: Fence, *, listeners: Sequence[SaveListener] = ()) -> None:
        self._directory = directory
        self._fence = fence
        self._listeners = listeners
        self._outcomes: deque[SaveOutcome] = deque()
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._is_given_up = threading.Event()

    @property
    def is_saving(self) -> bool:
        """Whether a save is in flight."""
        return not self._is_idle.is_set()

    @property
    def has_news(self) -> bool:
        """Whether `outcomes` would return any; costs next to nothing."""
        return bool(self._outcomes)

    def outcomes(self) -> list[SaveOutcome]:
        """What became of the saves since the last call."""
        return [self._outcomes.popleft() for _ in range(len(self._outcomes))]

    def start(self, source: Source, *, step: int, graph: bytes | None = None) -> None:
        """Begins to save, and returns; no save may be in flight.

        Args:
            source: The state at that step; released when the save has ended, however it did.
            step: Its step.
            graph: The content of `.meta`; None writes none.
        """
        if self.is_saving:
            raise ValueError("A save is in flight: wait for it first.")
        self._is_idle.clear()
        threading.Thread(
            target=self._save, args=(source, step, graph), name=f"checkpoint-writer-{step}", daemon=True
        ).start()

    def wait(self, timeout_secs: float | None = None) -> bool:
        """Waits for the save in flight, and returns whether there is none any more. A signal may interrupt it."""
        return self._is_idle.wait(timeout_secs)

    def finish(self, *, within_secs: float) -> None:
        """Ends for good: waits for the save in flight, and gives it up after that time."""
        try:
            is_done = self.wait(within_secs)
        except BaseException:  # somebody insists on the end
            self._is_given_up.set()
            raise
        self._is_given_up.set()
        if not is_done and not self.wait(_LAST_WORD_SECS):
            _logger.warning(
                "A save into %s has not ended within %g s of the training; its thread is left behind.",
                self._directory.url,
                within_secs + _LAST_WORD_SECS,
            )

    def _save(self, source: Source, step: int, graph: bytes | None) -> None:
        outcome = self._outcome(source, step, graph)
        try:
            self._tell(outcome)
        finally:
            self._outcomes.append(outcome)
            self._is_idle.set()

    def _outcome(self, source: Source, step: int, graph: bytes | None) -> SaveOutcome:
        try:
            try:
                _stand_back()
                self._write(source, f"{CHECKPOINT_BASENAME}-{step}", graph)
            finally:
                source.release()
        except BaseException as error:  # noqa: BLE001 - the training thread raises it
            return SaveOutcome(step, error)
        return SaveOutcome(step)

    def _tell(self, outcome: SaveOutcome) -> None:
        error = outcome.error
        for listener in self._listeners:
            if error is None:
                listener.on_saved(outcome.step)
            elif isinstance(error, Exception):
                listener.on_save_failed(outcome.step, error)

    def _write(self, source: Source, basename: str, graph: bytes | None) -> None:
        if self._fence.is_published(basename):  # as when a training resumes and ends at once
            return
        try:
            self._write_and_publish(source, basename, graph)
        except CheckpointSupersededError as error:
            if error.latest is not None:
                raise
            # Another generation was quicker to claim the model_dir, and has nothing yet that we ought to restore.
            self._write_and_publish(source, basename, graph)

    def _write_and_publish(self, source: Source, basename: str, graph: bytes | None) -> None:
        save = _Save(self._directory, self._fence, source, basename, self._check)
        save.write_data()
        if graph is not None:
            self._fence.write(f"{basename}.meta", graph + _nonce_field(save.nonce))
        self._check()
        self._fence.write(index_name(basename), save.index())
        self._fence.publish(basename)

    def _check(self) -> None:
        if self._is_given_up.is_set():
            raise CancelledError("The training has ended, and did not wait any longer for its last save.")


class _Save:
    """The data and the index of one checkpoint."""

    def __init__(
        self, directory: Directory, fence: Fence, source: Source, basename: str, check: Callable[[], None]
    ) -> None:
        self._fence = fence
        self._source = source
        self._basename = basename
        self._check = check
        # Without a lock a store compares tags, which are hashes of the content: no two objects may be equal.
        self.nonce = b"" if directory.locks else secrets.token_bytes(_NONCE_BYTES)
        tensors = source.tensors
        shards = local_shards(tensors) if directory.locks else 1
        self._layout = layout(tensors, shards=shards, nonce=self.nonce) if tensors else Layout(())
        self._files = list(_files(source.bundles, first_shard=len(self._layout.shards)))
        self._checksums = self._layout.checksums()
        for name, crc in source.checksums.items():
            self._checksums.set(name, crc)

    @property
    def _shards(self) -> int:
        return len(self._layout.shards) + len(self._files)

    def write_data(self) -> None:
        """Uploads all data files."""
        shards = self._layout.shards
        if len(shards) > 1:
            _share(shards, partial(self._upload, threads=1), threads=_THREADS)
        else:
            for shard in shards:
                self._upload(shard, threads=_THREADS)
        for number, file in enumerate(self._files, start=len(shards)):
            self._upload_file(file, number)

    def index(self) -> bytes:
        """The content of `.index`, after all data."""
        adopted = [entry for file in self._files for entry in file.entries]
        entries = [*self._layout.entries(self._checksums), *self._source.parents, *adopted]
        return index_bytes(entries, shards=self._shards, nonce=self.nonce)

    def _upload(self, shard: Shard, *, threads: int) -> None:
        def fill(upload: Upload) -> None:
            def put(part: tuple[int, list[Piece]]) -> None:
                self._check()
                upload.put(part[0], [self._read(piece, shard) for piece in part[1]])

            _share(enumerate(parts(shard, upload.part_size_bytes)), put, threads=min(threads, upload.part_count))

        self._fence.upload(data_name(self._basename, shard.number, self._shards), shard.size_bytes, fill)

    def _read(self, piece: Piece, shard: Shard) -> memoryview:
        if piece.tensor is None:
            return memoryview(shard.nonce)[piece.start : piece.stop]
        data = self._source.read(piece.tensor, piece.start, piece.stop)
        if piece.tensor.name not in self._source.checksums:
            self._checksums.add(piece.tensor.name, piece.start, data)
        return data

    def _upload_file(self, file: "_File", number: int) -> None:
        size_bytes = file.path.stat().st_size

        def fill(upload: Upload) -> None:
            with file.path.open("rb") as stream:
                for index in range(upload.part_count):
                    self._check()
                    data = stream.read(upload.part_size_bytes)
                    start = max(0, index * upload.part_size_bytes - size_bytes)
                    tail = self.nonce[start : start + upload.part_size_bytes - len(data)]
                    upload.put(index, [memoryview(data), memoryview(tail)])

        name = data_name(self._basename, number, self._shards)
        self._fence.upload(name, size_bytes + len(self.nonce), fill)


class _File(NamedTuple):
    """A data file of a bundle on the local disk, which becomes one of the checkpoint."""

    path: Path
    entries: list[TensorEntry]


def _files(bundles: Iterable[str], *, first_shard: int) -> Iterator[_File]:
    number = first_shard
    for prefix in bundles:
        index = Index.parse(Path(index_name(prefix)).read_bytes())
        for shard in range(index.shards):
            entries = [replace(entry, shard=number) for entry in index.entries.values() if entry.shard == shard]
            yield _File(Path(data_name(prefix, shard, index.shards)), entries)
            number += 1


def _share(tasks: Iterable[T], do: Callable[[T], None], *, threads: int) -> None:
    """Does all tasks, in this thread and as many more as there are to be; raises what the first that failed raised."""
    waiting, lock = iter(tasks), threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not errors:
                with lock:
                    task = next(waiting)
                do(task)
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            _let_go(error)
            errors.append(error)

    others = [
        threading.Thread(target=work, name=f"{threading.current_thread().name}-{number}", daemon=True)
        for number in range(1, threads)
    ]
    for thread in others:
        thread.start()
    work()
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]


def _let_go(error: BaseException) -> None:
    """Frees what the functions had in hand that an error has ended: its traceback would keep tensors in memory."""
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__context__


def _stand_back() -> None:
    """Gives this thread, and those that it starts, less of the processors while the training wants them."""
    if sys.platform == "linux":  # elsewhere it would be the whole process
        thread = threading.get_native_id()
        nice = os.getpriority(os.PRIO_PROCESS, thread) + _NICE
        os.setpriority(os.PRIO_PROCESS, thread, min(nice, _MOST_NICE))


def _nonce_field(nonce: bytes) -> bytes:
    """The nonce as an unknown field of a proto; nothing without one."""
    return encode_varint(_NONCE_FIELD << 3 | 2) + encode_varint(len(nonce)) + nonce if nonce else b""
