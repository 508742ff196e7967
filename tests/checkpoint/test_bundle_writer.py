"""Our tensor bundles, byte for byte against those of TensorFlow."""

import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.checkpoint.bundle.checksums import TensorChecksums, combine, mask, unmask
from runner.checkpoint.bundle.dtypes import STRING, dtype_number, numpy_dtype
from runner.checkpoint.bundle.entries import Index, index_bytes
from runner.checkpoint.bundle.layout import Tensor, layout, local_shards, parts
from runner.checkpoint.bundle.table import read_table, table_bytes
from runner.checkpoint.bundle.varint import encode_varint
from runner.storage.local_directory import LocalDirectory
from tests.checkpoint.arrays import DTYPES, Arrays, bundles, content, dtype_of
from tests.checkpoint.bundles import files_of, save_slices, save_v2, write_bundle


@pytest.mark.parametrize("dtype", [*DTYPES, STRING])
def test_a_dtype_has_the_number_and_the_numpy_dtype_that_tensorflow_gives_it(dtype: str) -> None:
    theirs = tf.as_dtype(dtype)

    assert dtype_number(dtype) == theirs.as_datatype_enum
    assert numpy_dtype(dtype) == np.dtype(theirs.as_numpy_dtype)


@given(bundles())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bundle_is_byte_for_byte_that_of_tensorflow(tmp_path: Path, arrays: Arrays) -> None:
    save_v2(tmp_path / "theirs", arrays)

    write_bundle(LocalDirectory(str(tmp_path), durable=False), "ours", arrays)

    assert files_of(tmp_path / "ours") == files_of(tmp_path / "theirs")


def test_an_index_of_several_blocks_is_byte_for_byte_that_of_tensorflow(tmp_path: Path) -> None:
    chance = random.Random(1)
    long_names = {f"scope/{chance.randbytes(chance.randrange(150)).hex()}/{number}" for number in range(4000)}
    arrays: dict[str, np.ndarray[Any, Any]] = dict.fromkeys(sorted(long_names), np.array(1.5))
    arrays["x" * 600_000] = arrays["z\xff" * 300_000] = np.arange(3)
    save_v2(tmp_path / "theirs", arrays)

    write_bundle(LocalDirectory(str(tmp_path), durable=False), "ours", arrays)

    assert files_of(tmp_path / "ours") == files_of(tmp_path / "theirs")
    assert len(Index.parse((tmp_path / "ours.index").read_bytes()).entries) == len(arrays)


def test_two_data_files_merged_by_tensorflow_have_the_index_that_ours_has(tmp_path: Path) -> None:
    first, second = {"a": np.arange(30.0), "z": np.arange(9)}, {"b": np.arange(25.0), "c": np.arange(20)}
    for number, arrays in enumerate((first, second)):
        save_v2(tmp_path / f"part{number}", arrays)
    prefixes = [str(tmp_path / f"part{number}") for number in range(2)]
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=str(tmp_path / "theirs"))

    write_bundle(LocalDirectory(str(tmp_path), durable=False), "ours", {**first, **second}, shards=2)

    assert files_of(tmp_path / "ours") == files_of(tmp_path / "theirs")


@given(bundles(), st.binary(min_size=1, max_size=40), st.integers(1, 4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tensorflow_reads_what_has_a_nonce_and_several_data_files(
    tmp_path: Path, arrays: Arrays, nonce: bytes, shards: int
) -> None:
    write_bundle(LocalDirectory(str(tmp_path), durable=False), "ours", arrays, shards=shards, nonce=nonce)

    read = tf.raw_ops.RestoreV2(
        prefix=str(tmp_path / "ours"),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        dtypes=[tf.as_dtype(dtype_of(array)) for array in arrays.values()],
    )
    assert [tuple(tensor.shape) for tensor in read] == [array.shape for array in arrays.values()]
    assert [content(tensor.numpy()) for tensor in read] == [content(array) for array in arrays.values()]


def test_bytes_with_a_nonce_are_unlike_those_without(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path), durable=False)
    arrays = {"a": np.arange(3)}
    for name, nonce in (("none", b""), ("first", b"1"), ("second", b"2")):
        write_bundle(directory, name, arrays, nonce=nonce)

    for suffix in (".index", ".data-00000-of-00001"):
        assert len({directory.read_bytes(name + suffix) for name in ("none", "first", "second")}) == 3


def test_what_tensorflow_saved_in_slices_becomes_a_shard_of_ours(tmp_path: Path) -> None:
    full = np.arange(40, dtype=np.float32).reshape(10, 4)
    rows = [("10 4 0,5:-", full[:5]), ("10 4 5,5:0,1", full[5:, :1]), ("10 4 5,5:1,3", full[5:, 1:])]
    save_slices(tmp_path / "temporary", [("table\u00e4", text, array) for text, array in rows])
    directory = LocalDirectory(str(tmp_path), durable=False)
    write_bundle(directory, "dense", {"b": np.arange(7)})

    theirs = Index.parse(directory.read_bytes("temporary.index")).entries.values()
    own = Index.parse(directory.read_bytes("dense.index")).entries.values()
    directory.write_bytes("both.index", index_bytes([*own, *(replace(entry, shard=1) for entry in theirs)], shards=2))
    for number, name in enumerate(("dense", "temporary")):
        data = directory.read_bytes(f"{name}.data-00000-of-00001")
        directory.write_bytes(f"both.data-{number:05}-of-00002", data)

    reader = tf.train.load_checkpoint(str(tmp_path / "both"))
    np.testing.assert_array_equal(reader.get_tensor("table\u00e4"), full)
    np.testing.assert_array_equal(reader.get_tensor("b"), np.arange(7))
    assert list(Index.parse(directory.read_bytes("both.index")).tensors) == ["b", "table\u00e4"]


@pytest.mark.parametrize(
    ("start", "length"), [(0, 1), (63, 64), (64, 8191), (8191, 8192), (2**20, 2**21), (2**41, 2**54), (2**60, 2**62)]
)
def test_a_stored_slice_has_the_key_that_tensorflow_gives_it(tmp_path: Path, start: int, length: int) -> None:
    name = "p\u00ff\u0001/\u0080"
    # A slice without elements, so that it can be as long as it likes.
    array = np.zeros((length, 0), np.uint8)
    save_slices(tmp_path / "theirs", [(name, f"{2**63 - 1} 0 {start},{length}:-", array)])

    index = Index.parse((tmp_path / "theirs.index").read_bytes())

    assert list(index.tensors) == [name]
    assert len(index.entries) == 2


def test_a_table_takes_no_key_out_of_order_and_gives_back_what_it_took() -> None:
    items = [(b"", b"1"), (b"a", b""), (b"a\0", b"2"), (b"\xff", b"3"), (b"\xff\xff", b"4")]

    assert list(read_table(table_bytes(items))) == items
    with pytest.raises(ValueError, match="keys of a table ascend"):
        table_bytes([items[1], items[0]])


def test_a_small_table_cannot_stand_for_keys_without_end() -> None:
    def block(entries: bytes) -> bytes:
        data = entries + bytes(4) + (1).to_bytes(4, "little") + b"\0"
        return data + mask(crc32c.crc32c(data)).to_bytes(4, "little")

    long_keys = b"\0" + encode_varint(50_000) + b"\0" + b"a" * 50_000
    for number in range(5_000):  # each is the one before and one byte more
        long_keys += encode_varint(50_000 + number) + b"\1\0b"
    first, empty = block(long_keys), block(b"")
    place = encode_varint(0) + encode_varint(len(first) - 5)
    index = block(b"\0\1" + encode_varint(len(place)) + b"z" + place)
    places = [len(first), len(empty) - 5, len(first) + len(empty), len(index) - 5]
    footer = b"".join(map(encode_varint, places)).ljust(40, b"\0") + table_bytes([])[-8:]

    with pytest.raises(ValueError, match="keys are more than 64 times as long"):
        list(read_table(first + empty + index + footer))


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_checksum_is_put_together_from_those_of_the_pieces(first: bytes, second: bytes) -> None:
    whole = crc32c.crc32c(first + second)

    assert combine(crc32c.crc32c(first), crc32c.crc32c(second), size_bytes=len(second)) == whole
    assert unmask(mask(whole)) == whole


def test_pieces_may_be_added_in_any_order_by_several_threads_and_twice() -> None:
    data = random.Random(0).randbytes(100_000)
    checksums = TensorChecksums({"a": len(data), "empty": 0})
    starts = [*range(0, len(data), 700), 0, 700]
    random.Random(1).shuffle(starts)

    def add(some: list[int]) -> None:
        for start in some:
            checksums.add("a", start, memoryview(data)[start : start + 700])

    threads = [threading.Thread(target=add, args=(starts[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert checksums.is_whole("a")
    assert checksums.of("a") == crc32c.crc32c(data)
    assert checksums.of("empty") == 0


def test_a_tensor_of_which_a_piece_is_missing_has_no_checksum() -> None:
    checksums = TensorChecksums({"a": 10})
    checksums.add("a", 5, memoryview(b"12345"))

    assert not checksums.is_whole("a")
    with pytest.raises(ValueError, match="Of tensor a only 0 of 10 bytes"):
        checksums.of("a")


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(1, 60), st.integers(1, 4), st.binary(max_size=20)
)
def test_parts_are_of_one_size_and_hold_every_byte_once(
    sizes: list[int], part_size_bytes: int, shards: int, nonce: bytes
) -> None:
    tensors = [Tensor(f"t{number:02}", "uint8", (size,)) for number, size in enumerate(sizes)]

    files = layout(tensors, shards=shards, nonce=nonce)

    assert sorted(files.tensors) == [tensor.name for tensor in tensors]
    assert len(files.shards) == min(shards, len(tensors))
    assert all(shard.tensors for shard in files.shards)
    for shard in files.shards:
        pieces = list(parts(shard, part_size_bytes))
        lengths = [sum(stop - start for _, start, stop in part) for part in pieces]
        assert sum(lengths) == shard.size_bytes == sum(each.size_bytes for each in shard.tensors) + len(nonce)
        assert all(length == part_size_bytes for length in lengths[:-1])
        assert all(0 < length <= part_size_bytes for length in lengths)
        bytes_of = [
            (tensor.name if tensor else "", byte)
            for part in pieces
            for tensor, start, stop in part
            for byte in range(start, stop)
        ]
        in_order = [(tensor.name, byte) for tensor in shard.tensors for byte in range(tensor.size_bytes)]
        assert bytes_of == in_order + [("", byte) for byte in range(len(nonce))]


def test_a_small_model_has_one_data_file_on_a_local_disk_and_a_large_one_two() -> None:
    tensors = [Tensor(f"t{number}", "float32", (1 << 20,)) for number in range(64)]

    assert local_shards(tensors[:8]) == 1
    assert local_shards(tensors) == 2
    assert [shard.size_bytes for shard in layout(tensors, shards=2).shards] == [32 << 22] * 2


@pytest.mark.parametrize(("names", "message"), [(["a", "a"], "differ"), (["a", ""], "need names")])
def test_tensors_need_names_that_differ(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layout([Tensor(name, "float32", ()) for name in names])


@pytest.mark.parametrize(("dtype", "encoded_bytes"), [("variant", None), ("string", None), ("float32", 4)])
def test_a_tensor_that_no_bundle_has_is_refused(dtype: str, encoded_bytes: int | None) -> None:
    with pytest.raises(ValueError, match=r"are no arrays|encoded_bytes is for strings"):
        Tensor("a", dtype, (), encoded_bytes)
