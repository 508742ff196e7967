"""Where the tensors of a new checkpoint lie in its data files, and the parts in which these are uploaded."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from runner.checkpoint.bundle.checksums import TensorChecksums
from runner.checkpoint.bundle.dtypes import STRING, item_size_bytes, numpy_dtype
from runner.checkpoint.bundle.entries import TensorEntry

__all__ = ["Layout", "Piece", "Shard", "Tensor", "layout", "local_shards", "parts"]

_MIN_BYTES_FOR_TWO_SHARDS = 64 << 20


@dataclass(frozen=True)
class Tensor:
    """A tensor to be written.

    Attributes:
        name: In the checkpoint.
        dtype: As tf.DType.name: "float32", "string".
        shape: May be empty, for a scalar.
        encoded_bytes: Of strings, the size of what `encode_strings` returned; None for all others.

    Raises:
        ValueError: No bundle has tensors of that dtype, or it lacks a size.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    encoded_bytes: int | None = None

    def __post_init__(self) -> None:
        numpy_dtype(self.dtype)
        if (self.dtype == STRING) != (self.encoded_bytes is not None):
            raise ValueError(f"Tensor {self.name} of {self.dtype}: encoded_bytes is for strings, and for these only.")

    @property
    def size_bytes(self) -> int:
        """In the data file."""
        if self.encoded_bytes is not None:
            return self.encoded_bytes
        return math.prod(self.shape) * (item_size_bytes(self.dtype) or 0)


class Piece(NamedTuple):
    """A run of bytes of one tensor.

    Attributes:
        tensor: The tensor; None for the nonce that ends a data file.
        start: In the tensor, or in the nonce; bytes.
        stop: Likewise.
    """

    tensor: Tensor | None
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """One data file.

    Attributes:
        number: From 0.
        tensors: In the order of their bytes, which follow each other without gaps from offset 0.
        nonce: Bytes after the last tensor, which readers pass over.
    """

    number: int
    tensors: tuple[Tensor, ...]
    nonce: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return sum(tensor.size_bytes for tensor in self.tensors) + len(self.nonce)


@dataclass(frozen=True)
class Layout:
    """The data files of a checkpoint."""

    shards: tuple[Shard, ...]

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {tensor.name: tensor for shard in self.shards for tensor in shard.tensors}

    def checksums(self) -> TensorChecksums:
        """What the checksums of the pieces are put into while they are written."""
        return TensorChecksums({tensor.name: tensor.size_bytes for tensor in self.tensors.values()})

    def entries(self, checksums: TensorChecksums) -> list[TensorEntry]:
        """The entries of the index, once every piece has its checksum.

        Raises:
            ValueError: One has none.
        """
        entries = []
        for shard in self.shards:
            offset = 0
            for tensor in shard.tensors:
                crc, size_bytes = checksums.of(tensor.name), tensor.size_bytes
                entries.append(
                    TensorEntry(tensor.name, tensor.dtype, tensor.shape, shard.number, offset, size_bytes, crc)
                )
                offset += size_bytes
        return entries


def local_shards(tensors: Iterable[Tensor]) -> int:
    """The number of data files on a local disk: one, as TensorFlow has it, or two for a large model.

    Two threads that write one file of ext4 wait for each other.
    """
    return 1 if sum(tensor.size_bytes for tensor in tensors) < _MIN_BYTES_FOR_TWO_SHARDS else 2


def layout(tensors: Iterable[Tensor], *, shards: int = 1, nonce: bytes = b"") -> Layout:
    """Distributes tensors over data files of about equal size; the same for the same tensors.

    Args:
        tensors: In the order of their bytes in each file. SaveV2 keeps that of its inputs, which a Saver sorts by name.
        shards: Number of data files; less come of it if there are not as many tensors.
        nonce: Ends each data file.

    Raises:
        ValueError: Two tensors have one name, or one has none.
    """
    given = list(tensors)
    names = {tensor.name for tensor in given}
    if len(names) < len(given) or "" in names:
        raise ValueError("Tensors of a checkpoint need names, and names that differ.")
    files: list[list[int]] = [[] for _ in range(max(1, min(shards, len(given))))]
    sizes = [0] * len(files)
    for position in sorted(range(len(given)), key=lambda position: -given[position].size_bytes):
        # Number of tensors as the second criterion: a file without any is none.
        smallest = min(range(len(files)), key=lambda number: (sizes[number], len(files[number])))
        files[smallest].append(position)
        sizes[smallest] += given[position].size_bytes
    return Layout(
        tuple(Shard(number, tuple(given[each] for each in sorted(file)), nonce) for number, file in enumerate(files))
    )


def parts(shard: Shard, part_size_bytes: int) -> Iterator[list[Piece]]:
    """The content of a data file in parts of one size, but for the last.

    Args:
        shard: The data file.
        part_size_bytes: Size of each part.

    Yields:
        The pieces whose bytes, one after the other, are a part; in the order of the parts. An empty file has none.
    """
    part: list[Piece] = []
    left_bytes = part_size_bytes
    runs: list[tuple[Tensor | None, int]] = [(tensor, tensor.size_bytes) for tensor in shard.tensors]
    for tensor, size_bytes in [*runs, (None, len(shard.nonce))]:
        start = 0
        while start < size_bytes:
            stop = min(size_bytes, start + left_bytes)
            part.append(Piece(tensor, start, stop))
            left_bytes -= stop - start
            start = stop
            if not left_bytes:
                yield part
                part, left_bytes = [], part_size_bytes
    if part:
        yield part
