"""The index of a bundle: which tensors there are, and where their bytes lie."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from runner.checkpoint.bundle.checksums import mask, unmask
from runner.checkpoint.bundle.dtypes import dtype_name, dtype_number, item_size_bytes
from runner.checkpoint.bundle.protos import entry_message, header_message
from runner.checkpoint.bundle.slices import Slice, key_of
from runner.checkpoint.bundle.table import read_table, table_bytes

__all__ = ["Index", "TensorEntry", "data_name", "index_bytes", "index_name", "stored_name"]

_VERSION = 1  # of the format: kTensorBundleVersion
_HEADER_KEY = b""
_LITTLE = 0


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a bundle, or one stored slice of it.

    Attributes:
        name: The tensor's. That of a stored slice stands for its key, and is not meant for people.
        dtype: As tf.DType.name: "float32", "string".
        shape: Of the whole tensor; of a stored slice, its own.
        shard: The data file, from 0.
        offset: In the data file, in bytes.
        size_bytes: In the data file.
        crc32c: Of its bytes; of strings, as `encode_strings` has it.
        slices: Not empty: the tensor is stored as these slices, each an entry of its own, and has no bytes itself.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size_bytes: int = 0
    crc32c: int = 0
    slices: tuple[Slice, ...] = ()

    @property
    def end(self) -> int:
        """Where it ends in the data file, in bytes."""
        return self.offset + self.size_bytes


@dataclass(frozen=True)
class Index:
    """All that an index file says.

    Attributes:
        shards: Number of data files.
        entries: By name; stored slices included.
        nonce: What the writer put in to make its bytes unlike all others; empty from TensorFlow.
    """

    shards: int
    entries: Mapping[str, TensorEntry]
    nonce: bytes = b""
    _titles: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, data: bytes) -> "Index":
        """Reads an index file, whoever wrote it.

        Raises:
            ValueError: It is damaged, of another machine's byte order, or of a later version of the format.
        """
        items = read_table(data)
        key, value = next(items, (None, b""))
        if key != _HEADER_KEY:
            raise ValueError("it does not begin with a header")
        header = _parse(header_message(), value, "header")
        _check_header(header)
        entries = {entry.name: entry for entry in (_read_entry(key, value) for key, value in items)}
        if not 1 <= header.num_shards <= max(1, len(entries)):
            raise ValueError(f"{header.num_shards} data files for {len(entries)} tensors cannot be")
        for entry in entries.values():
            _check(entry, shards=header.num_shards)
        _check_overlap(entries.values())
        titles = {
            stored_name(entry.name, part): f"{entry.name} ({part})"
            for entry in entries.values()
            for part in entry.slices
        }
        return cls(header.num_shards, entries, bytes(header.nonce), titles)

    @property
    def tensors(self) -> dict[str, TensorEntry]:
        """The entries but for stored slices: what a model calls its tensors."""
        return {name: entry for name, entry in self.entries.items() if name not in self._titles}

    def title(self, entry: TensorEntry) -> str:
        """What to call an entry in a message: the name of the tensor, and which slice of it."""
        return self._titles.get(entry.name, entry.name)


def index_name(basename: str) -> str:
    """The name of a bundle's index."""
    return f"{basename}.index"


def data_name(basename: str, shard: int, shards: int) -> str:
    """The name of one of a bundle's data files."""
    return f"{basename}.data-{shard:05}-of-{shards:05}"


def stored_name(name: str, stored: Slice) -> str:
    """The name of the entry of a stored slice."""
    return stored.key(name).decode("utf-8", "surrogateescape")


def index_bytes(entries: Iterable[TensorEntry], *, shards: int, nonce: bytes = b"") -> bytes:
    """The content of an index file; without a nonce, byte for byte what TensorFlow writes.

    Args:
        entries: In any order.
        shards: Number of data files.
        nonce: Makes the file unlike every other with the same entries; TensorFlow skips it.

    Raises:
        ValueError: Two entries have one name, or one has none.
    """
    header = header_message()
    header.num_shards = shards
    header.version.producer = _VERSION
    header.nonce = nonce
    items = sorted((key_of(entry.name), _message(entry).SerializeToString()) for entry in entries)
    return table_bytes([(_HEADER_KEY, header.SerializeToString()), *items])


def _message(entry: TensorEntry) -> Any:
    message = entry_message()
    message.dtype = dtype_number(entry.dtype)
    message.shape.SetInParent()
    for size in entry.shape:
        message.shape.dim.add(size=size)
    message.shard_id, message.offset, message.size = entry.shard, entry.offset, entry.size_bytes
    if not entry.slices:
        message.crc32c = mask(entry.crc32c)
    for each in entry.slices:
        extents = message.slices.add().extent
        for start, length in each.extents:
            # A start of 0 is left out, as is the length of a whole dimension.
            extent = extents.add(start=start)
            if length is not None:
                extent.length = length
    return message


def _parse(message: Any, data: bytes, what: str) -> Any:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(f"its {what} cannot be read") from error
    return message


def _check_header(header: Any) -> None:
    version = header.version
    if header.endianness != _LITTLE:
        raise ValueError("it was written on a machine of the other byte order, which is not supported")
    if version.min_consumer > _VERSION or _VERSION in version.bad_consumers or version.producer < 0:
        raise ValueError(
            f"its format of version {version.producer} asks for a reader of version {version.min_consumer}, and this "
            f"is one of version {_VERSION}"
        )


def _read_entry(key: bytes, value: bytes) -> TensorEntry:
    name = key.decode("utf-8", "surrogateescape")
    message = _parse(entry_message(), value, f"entry {name!r}")
    slices = tuple(
        Slice(tuple((each.start, each.length if each.HasField("length") else None) for each in part.extent))
        for part in message.slices
    )
    return TensorEntry(
        name,
        dtype_name(message.dtype),
        tuple(dim.size for dim in message.shape.dim),
        message.shard_id,
        message.offset,
        message.size,
        unmask(message.crc32c),
        slices,
    )


def _check(entry: TensorEntry, *, shards: int) -> None:
    item_size = item_size_bytes(entry.dtype)
    size_bytes = entry.size_bytes if item_size is None or entry.slices else math.prod(entry.shape) * item_size
    if min(entry.offset, entry.size_bytes, *entry.shape, 0) < 0 or entry.size_bytes != size_bytes:
        raise ValueError(
            f"tensor {entry.name!r} of {entry.dtype} {list(entry.shape)} cannot have {entry.size_bytes} bytes at "
            f"offset {entry.offset}"
        )
    if not 0 <= entry.shard < shards:
        raise ValueError(f"tensor {entry.name!r} is said to be in data file {entry.shard} of {shards}")
    for each in entry.slices:
        each.bounds(entry.shape)


def _check_overlap(entries: Iterable[TensorEntry]) -> None:
    # No two share bytes, so that all tensors together are no larger than the files.
    ordered = sorted((entry for entry in entries if entry.size_bytes), key=lambda entry: (entry.shard, entry.offset))
    for entry, following in pairwise(ordered):
        if entry.shard == following.shard and entry.end > following.offset:
            raise ValueError(f"tensors {entry.name!r} and {following.name!r} overlap")
