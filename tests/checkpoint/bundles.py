"""Bundles as a test needs them: written by ours from arrays, or by TensorFlow's SaveV2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runner.checkpoint.bundle.dtypes import STRING
from runner.checkpoint.bundle.entries import data_name, index_bytes, index_name
from runner.checkpoint.bundle.layout import Tensor, layout, parts
from runner.checkpoint.bundle.strings import encode_strings
from runner.storage.directory import Directory
from tests.checkpoint.arrays import Arrays, dtype_of


def write_bundle(
    directory: Directory,
    basename: str,
    arrays: Arrays,
    *,
    shards: int = 1,
    nonce: bytes = b"",
) -> None:
    """Writes a bundle of arrays, in the order of the mapping, as a training does: in parts."""
    content, tensors, string_crcs = {}, [], {}
    for name, array in arrays.items():
        if array.dtype == object:
            content[name], string_crcs[name] = encode_strings(list(array.reshape(-1)))
            tensors.append(Tensor(name, STRING, array.shape, len(content[name])))
        else:
            content[name] = array.tobytes()
            tensors.append(Tensor(name, dtype_of(array), array.shape))
    files = layout(tensors, shards=shards, nonce=nonce)
    checksums = files.checksums()
    for name, crc in string_crcs.items():
        checksums.set(name, crc)
    for shard in files.shards:
        name = data_name(basename, shard.number, len(files.shards))
        with directory.upload(name, shard.size_bytes) as upload:
            for number, part in enumerate(parts(shard, upload.part_size_bytes)):
                views = []
                for tensor, start, stop in part:
                    views.append(memoryview(content[tensor.name] if tensor else nonce)[start:stop])
                    if tensor and tensor.name not in string_crcs:
                        checksums.add(tensor.name, start, views[-1])
                upload.put(number, views)
            upload.commit()
    index = index_bytes(files.entries(checksums), shards=len(files.shards), nonce=nonce)
    directory.write_bytes(index_name(basename), index)


def save_v2(prefix: Path, arrays: Arrays) -> None:
    """Lets TensorFlow write a bundle of arrays, in the order of the mapping."""
    save_slices(prefix, [(name, "", array) for name, array in arrays.items()])


def save_slices(prefix: Path, arrays: Sequence[tuple[str, str, np.ndarray[Any, Any]]]) -> None:
    """Lets TensorFlow write a bundle of named arrays, each of which is the part of a tensor that `10 4 0,5:-` says."""
    import tensorflow as tf  # noqa: PLC0415 - seconds, which not every user of this module needs

    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=[name for name, _, _ in arrays],
        shape_and_slices=[text for _, text, _ in arrays],
        tensors=[tf.constant(array, tf.as_dtype(dtype_of(array)), array.shape) for _, _, array in arrays],
    )


def files_of(prefix: Path) -> dict[str, bytes]:
    """The content of a bundle's files by what follows their prefix."""
    return {
        path.name.removeprefix(prefix.name): path.read_bytes()
        for path in sorted(prefix.parent.glob(f"{prefix.name}.*"))
    }
