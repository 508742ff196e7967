"""Reads a bundle from any store: everything is checked, and nothing returned but what was written."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import numpy as np

from runner.checkpoint.bundle.assembly import Assembly
from runner.checkpoint.bundle.buffers import Array, Buffers
from runner.checkpoint.bundle.dtypes import numpy_dtype
from runner.checkpoint.bundle.entries import Index, TensorEntry, data_name, index_name
from runner.checkpoint.bundle.ranges import ByteRange, byte_ranges
from runner.checkpoint.bundle.slices import Slice
from runner.errors import (
    CheckpointDamagedError,
    CheckpointError,
    CheckpointNotFoundError,
    ConditionFailedError,
    ObjectNotFoundError,
    RunnerError,
)
from runner.storage.directory import Directory, Entry
from runner.storage.urls import is_local

__all__ = ["BundleReader"]

_THREADS = 8
_LOCAL_RANGE_BYTES = 4 << 20
"""Enough for a disk; and what is checked right after it was read is still in the caches of the processor."""
_REMOTE_RANGE_BYTES = 16 << 20
"""A request costs milliseconds of processor time."""
_ADVICE = "Use another checkpoint."


class BundleReader:
    """One bundle, whose index has been read and checked, and compared with the sizes of its data files.

    Thread-safe. That its files are deleted or replaced while it is read is found out, and an error.

    Args:
        directory: Where the bundle is.
        basename: Name of its files up to `.index` and `.data-`.
        threads: How many requests are under way at the same time.
        range_bytes: What one of them reads; None: what suits the directory. Beside the arrays, this much memory is used
            for each thread.

    Attributes:
        index: All that its index says.
        entries: The tensors by name.
        size_bytes: Of all of its files.

    Raises:
        CheckpointNotFoundError: There is no such bundle, or no longer.
        CheckpointDamagedError: Its index is damaged, or a data file missing or too short.
    """

    def __init__(
        self, directory: Directory, basename: str, *, threads: int = _THREADS, range_bytes: int | None = None
    ) -> None:
        self._directory = directory
        self._basename = basename
        self._threads = threads
        default_bytes = _LOCAL_RANGE_BYTES if is_local(directory.url) else _REMOTE_RANGE_BYTES
        self._range_bytes = range_bytes or default_bytes
        self._scratch = threading.local()
        try:
            stored = directory.read(index_name(basename))
        except ObjectNotFoundError as error:
            raise CheckpointNotFoundError(f"There is no checkpoint {self.prefix}: it has no index.") from error
        self._index_tag = stored.tag
        with self._naming(index_name(basename)):
            self.index = Index.parse(stored.data)
        self.entries: Mapping[str, TensorEntry] = self.index.tensors
        self._files = self._find_files()
        self.size_bytes = len(stored.data) + sum(file.size_bytes for file in self._files)

    @property
    def prefix(self) -> str:
        """Path or URL of its files up to `.index` and `.data-`."""
        return f"{self._directory.url}/{self._basename}"

    def read(self, names: Iterable[str] | None = None) -> dict[str, Array]:
        """Tensors by name, those too that are stored in slices.

        Args:
            names: Which; None means all.

        Returns:
            Arrays with memory of their own, aligned to 64 bytes. Strings are objects of type bytes. What numpy has no
            dtype for has one of ml_dtypes.

        Raises:
            KeyError: There is no such tensor.
            ValueError: A tensor is no array: it has variants.
            CheckpointNotFoundError: The files have been deleted or replaced.
            CheckpointDamagedError: What was read is not what was written.
        """
        wanted = list(dict.fromkeys(self.entries if names is None else names))
        return dict(zip(wanted, self.read_slices([(name, None) for name in wanted]), strict=True))

    def read_slice(self, name: str, part: Slice) -> Array:
        """A part of one tensor; see `read_slices`."""
        return self.read_slices([(name, part)])[0]

    def read_slices(self, wanted: Sequence[tuple[str, Slice | None]]) -> list[Array]:
        """Parts of tensors, whether they were stored as the same parts, as others or whole.

        Args:
            wanted: Names and parts; None means all of a tensor.

        Raises:
            KeyError: There is no such tensor.
            ValueError: A part is not within its tensor, or a tensor is no array.
            CheckpointNotFoundError: The files have been deleted or replaced.
            CheckpointDamagedError: What was read is not what was written, or the slices of a tensor are not all there.
        """
        for name, part in wanted:
            if name not in self.entries:
                raise KeyError(f"{self.prefix} has no tensor {name!r}.")
            numpy_dtype(self.entries[name].dtype)
            if part is not None:
                part.bounds(self.entries[name].shape)
        assemblies = [self._assembly(name, part) for name, part in wanted]
        stored = list({entry.name: entry for each in assemblies for entry, _ in each.sources}.values())
        buffers = Buffers(stored, keep=True)
        self._fetch(stored, buffers)
        arrays = {}
        for entry in stored:
            with self._naming_entry(entry):
                arrays[entry.name] = buffers.array(entry)
        return [each.array(arrays) for each in assemblies]

    def verify(self) -> None:
        """Reads every tensor and checks every byte of it. Needs the memory of its strings, and of a range per thread.

        Raises:
            CheckpointNotFoundError: The files have been deleted or replaced.
            CheckpointDamagedError: What was read is not what was written, or the slices of a tensor are not all there.
        """
        for name in self.entries:
            self._assembly(name, None)
        stored = [entry for entry in self.index.entries.values() if not entry.slices]
        buffers = Buffers(stored, keep=False)
        self._fetch(stored, buffers)
        for entry in stored:
            with self._naming_entry(entry):
                buffers.verify(entry)

    def _assembly(self, name: str, part: Slice | None) -> Assembly:
        with self._naming(index_name(self._basename), name):
            return Assembly.of(self.index, self.entries[name], part)

    def _find_files(self) -> list[Entry]:
        """The data files, each as long as the index says at least."""
        files = []
        ends = [0] * self.index.shards
        for entry in self.index.entries.values():
            ends[entry.shard] = max(ends[entry.shard], entry.end)
        for shard, end in enumerate(ends):
            name = self._data_name(shard)
            file = self._directory.stat(name)
            if file is None:
                raise self._lost(name, "is missing")
            if file.size_bytes < end:
                raise self._lost(name, f"has {file.size_bytes} bytes, and at least {end} are said to be in it")
            files.append(file)
        return files

    def _data_name(self, shard: int) -> str:
        return data_name(self._basename, shard, self.index.shards)

    def _fetch(self, entries: Iterable[TensorEntry], buffers: Buffers) -> None:
        """Reads entries into buffers by several threads, all of which the first error ends."""
        ended = threading.Event()

        def fetch(run: ByteRange) -> None:
            try:
                if not ended.is_set():
                    self._fetch_range(run, buffers)
            except BaseException:
                ended.set()
                raise

        runs = list(byte_ranges(entries, max_bytes=self._range_bytes))
        for entry in entries:
            # In this thread: what another one allocates is not used again, and fresh pages cost as much as the reading.
            buffers.memory(entry)
        if len(runs) <= 1:
            for run in runs:
                self._fetch_range(run, buffers)
            return
        with ThreadPoolExecutor(min(self._threads, len(runs)), "read-checkpoint") as pool:
            try:
                for _ in pool.map(fetch, runs):
                    pass
            finally:
                ended.set()

    def _fetch_range(self, run: ByteRange, buffers: Buffers) -> None:
        first = run.entries[0]
        memory = None if run.start is None else buffers.memory(first)
        if run.start is not None and memory is not None:
            data = memory[run.start : run.start + run.size_bytes]
        else:
            data = self._scratch_memory(run.size_bytes)
        self._read_into(run, data)
        for entry in run.entries:
            start = run.start or 0
            begin = entry.offset + start - run.offset
            piece = data[begin : begin + entry.size_bytes - start]
            if run.start is None and (memory := buffers.memory(entry)) is not None:
                memory[:] = piece
            with self._naming_entry(entry):
                buffers.check(entry, piece, start=start)

    def _read_into(self, run: ByteRange, data: memoryview) -> None:
        file = self._files[run.shard]
        try:
            self._directory.read_into(file.name, data, offset=run.offset, tag=file.tag or None)
        except ObjectNotFoundError as error:
            raise self._lost(file.name, "is missing") from error
        except ConditionFailedError as error:
            raise self._lost(file.name, "has been replaced while it was read") from error

    def _scratch_memory(self, size_bytes: int) -> memoryview:
        memory: memoryview | None = getattr(self._scratch, "memory", None)
        if memory is None or len(memory) < size_bytes:
            memory = self._scratch.memory = np.empty(size_bytes, np.uint8).data
        return memory[:size_bytes]

    def _lost(self, name: str, what: str) -> CheckpointError:
        """The error for a data file that is not as expected."""
        # Retention deletes the index first: whoever reads a checkpoint at that moment finds its data files gone.
        index = self._directory.stat(index_name(self._basename))
        if index is None or index.tag != self._index_tag:
            change = "deleted" if index is None else "replaced"
            return CheckpointNotFoundError(f"{self.prefix} was {change} while it was read. Read the newest checkpoint.")
        return CheckpointDamagedError(f"{self._directory.url}/{name} {what}, which its checkpoint needs. {_ADVICE}")

    def _naming_entry(self, entry: TensorEntry) -> AbstractContextManager[None]:
        return self._naming(self._data_name(entry.shard), self.index.title(entry))

    @contextmanager
    def _naming(self, name: str, tensor: str | None = None) -> Iterator[None]:
        """Says in which file, and tensor, the damage is that a ValueError tells of."""
        try:
            yield
        except RunnerError:
            raise
        except ValueError as error:
            what = "" if tensor is None else f"tensor {tensor}: "
            raise CheckpointDamagedError(
                f"{self._directory.url}/{name} is damaged: {what}{error}. {_ADVICE}"
            ) from error
