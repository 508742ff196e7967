"""Reading tensor bundles of TensorFlow and of ours: what was written, or an error that says what is wrong."""

import itertools
import random
import secrets
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.checkpoint.bundle.checksums import mask
from runner.checkpoint.bundle.entries import Index, index_bytes
from runner.checkpoint.bundle.reader import BundleReader
from runner.checkpoint.bundle.slices import Slice, parse_shape_and_slice
from runner.checkpoint.bundle.table import read_table, table_bytes
from runner.errors import CheckpointDamagedError, CheckpointNotFoundError
from runner.storage.directory import Directory
from runner.storage.local_directory import LocalDirectory
from runner.storage.urls import open_directory
from tests.checkpoint.arrays import Arrays, bundles, content, random_array
from tests.checkpoint.bundles import save_slices, save_v2, write_bundle

FULL = np.arange(240, dtype=np.float32).reshape(12, 20)
ROWS = [("12 20 0,5:-", FULL[:5]), ("12 20 5,7:0,3", FULL[5:, :3]), ("12 20 5,7:3,17", FULL[5:, 3:])]
WITH_TMP_PATH = [HealthCheck.function_scoped_fixture]


class Watched(LocalDirectory):
    """A local directory that tells of each read, before it is done."""

    def __init__(self, url: str, on_read: Callable[[str, int], None]) -> None:
        super().__init__(url, durable=False)
        self._on_read = on_read

    def read_into(self, name: str, buffer: memoryview, *, offset: int = 0, tag: str | None = None) -> None:
        self._on_read(name, buffer.nbytes)
        super().read_into(name, buffer, offset=offset, tag=tag)


@pytest.fixture
def directory(tmp_path: Path) -> LocalDirectory:
    return LocalDirectory(str(tmp_path), durable=False)


def some_arrays() -> dict[str, np.ndarray[Any, Any]]:
    return {
        "dense/kernel": random_array("float32", (30, 40), 1),
        "dense/bias": random_array("bfloat16", (40,), 2),
        "global_step": np.array(7),
        "vocabulary": np.array([b"one", b"", b"three" * 50], object),
        "nothing": np.zeros((0, 3)),
    }


def assert_same(read: Arrays, written: Arrays) -> None:
    assert {name: (array.dtype, array.shape) for name, array in read.items()} == {
        name: (array.dtype, array.shape) for name, array in written.items()
    }
    assert {name: content(array) for name, array in read.items()} == {
        name: content(array) for name, array in written.items()
    }


@given(bundles(), st.integers(1, 400))
@settings(max_examples=40, deadline=None, suppress_health_check=WITH_TMP_PATH)
def test_what_tensorflow_wrote_is_read(tmp_path: Path, arrays: Arrays, range_bytes: int) -> None:
    save_v2(tmp_path / "theirs", arrays)

    reader = BundleReader(LocalDirectory(str(tmp_path)), "theirs", threads=3, range_bytes=range_bytes)

    assert_same(reader.read(), arrays)
    reader.verify()


@given(bundles(), st.integers(1, 4), st.binary(max_size=20), st.integers(1, 400))
@settings(max_examples=40, deadline=None, suppress_health_check=WITH_TMP_PATH)
def test_what_we_wrote_is_read(tmp_path: Path, arrays: Arrays, shards: int, nonce: bytes, range_bytes: int) -> None:
    directory = LocalDirectory(str(tmp_path), durable=False)
    write_bundle(directory, "ours", arrays, shards=shards, nonce=nonce)

    reader = BundleReader(directory, "ours", range_bytes=range_bytes)

    assert reader.index.nonce == nonce
    assert_same(reader.read(), arrays)
    reader.verify()


@pytest.mark.parametrize("store", ["memory", "s3"])
def test_a_bundle_of_several_data_files_is_read_from_other_stores(store: str, request: pytest.FixtureRequest) -> None:
    url = f"memory://{secrets.token_hex(4)}/model" if store == "memory" else request.getfixturevalue("s3_url")
    directory = open_directory(url)
    arrays = {f"t{number}": random_array("float32", (200_000 * number,), number) for number in range(9)}
    write_bundle(directory, "x", arrays, shards=2, nonce=b"nonce")

    reader = BundleReader(directory, "x", range_bytes=1 << 20)

    assert_same(reader.read(), arrays)
    reader.verify()
    flipped = bytearray(directory.read_bytes("x.data-00001-of-00002"))
    flipped[-100] ^= 1
    directory.write_bytes("x.data-00001-of-00002", bytes(flipped))
    with pytest.raises(CheckpointDamagedError, match="data-00001-of-00002 has been replaced"):
        reader.verify()
    with pytest.raises(CheckpointDamagedError, match=r"data-00001-of-00002 is damaged: tensor t\d: its checksum"):
        BundleReader(directory, "x").verify()


def test_arrays_are_such_as_tensorflow_takes_without_a_copy(directory: LocalDirectory) -> None:
    arrays = {f"t{size}": random_array("uint8", (size,), size) for size in (1, 7, 63, 64, 5000)}
    write_bundle(directory, "x", arrays)

    read = BundleReader(directory, "x", range_bytes=100).read()

    assert [array.ctypes.data % 64 for array in read.values()] == [0] * len(arrays)
    assert all(array.flags.writeable and array.flags.c_contiguous for array in read.values())


def test_only_the_tensors_asked_for_are_read(directory: LocalDirectory) -> None:
    write_bundle(directory, "x", {name: random_array("uint8", (100_000,)) for name in "abc"})
    sizes: list[int] = []
    watched = Watched(directory.url, lambda _, size: sizes.append(size))

    assert list(BundleReader(watched, "x").read(["b"])) == ["b"]

    assert sizes == [100_000]
    with pytest.raises(KeyError, match="has no tensor 'd'"):
        BundleReader(watched, "x").read(["d"])


def test_small_tensors_share_a_request(directory: LocalDirectory) -> None:
    arrays = {f"t{number:04}": random_array("uint8", (number % 50,), number) for number in range(1000)}
    write_bundle(directory, "x", arrays)
    sizes: list[int] = []
    reader = BundleReader(Watched(directory.url, lambda _, size: sizes.append(size)), "x", range_bytes=10_000)

    read = reader.read()

    assert_same(read, arrays)
    assert len(sizes) <= 4
    assert sum(sizes) == sum(array.nbytes for array in arrays.values())


@pytest.mark.parametrize(
    "part", ["0,5:-", "5,7:0,3", "-:-", "0,12:0,20", "2,6:1,9", "11,1:19,1", "5,7:-", "-:0,1"], ids=str
)
@pytest.mark.parametrize("is_stored_whole", [True, False], ids=["whole", "sliced"])
def test_a_part_is_read_however_the_tensor_was_stored(tmp_path: Path, part: str, *, is_stored_whole: bool) -> None:
    rows = [("", FULL)] if is_stored_whole else ROWS
    save_slices(tmp_path / "x", [("table\u00e4", text, array) for text, array in rows])
    wanted = parse_shape_and_slice(f"12 20 {part}")
    assert wanted is not None
    theirs = tf.raw_ops.RestoreV2(
        prefix=str(tmp_path / "x"),
        tensor_names=["table\u00e4"],
        shape_and_slices=[f"12 20 {part}"],
        dtypes=[tf.float32],
    )[0]

    reader = BundleReader(LocalDirectory(str(tmp_path)), "x")

    assert list(reader.entries) == ["table\u00e4"]
    np.testing.assert_array_equal(reader.read_slice("table\u00e4", wanted[1]), theirs.numpy())
    np.testing.assert_array_equal(reader.read()["table\u00e4"], FULL)
    reader.verify()


@st.composite
def partitions(draw: st.DrawFn) -> tuple[tuple[int, ...], list[list[int]]]:
    """A shape, and where it is cut in each dimension."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    cuts = [sorted({0, size, *draw(st.lists(st.integers(1, size), max_size=2))}) for size in shape]
    return tuple(shape), cuts


def some_slice(draw: st.DrawFn, shape: tuple[int, ...]) -> Slice:
    extents = []
    for size in shape:
        start = draw(st.integers(0, size - 1))
        extents.append((start, draw(st.integers(1, size - start))))
    return Slice(tuple(extents))


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=WITH_TMP_PATH)
def test_any_part_of_any_partition_is_read(tmp_path: Path, data: st.DataObject) -> None:
    shape, cuts = data.draw(partitions())
    full = random_array("int32", shape, 1)
    boxes = list(itertools.product(*(itertools.pairwise(each) for each in cuts)))
    stored = [Slice(tuple((start, stop - start) for start, stop in box)) for box in boxes]
    wanted = [data.draw(st.composite(some_slice)(shape)) for _ in range(3)]
    sizes = " ".join(map(str, shape))
    save_slices(tmp_path / "x", [("t", f"{sizes} {part}", full[within(part)]) for part in stored])

    reader = BundleReader(LocalDirectory(str(tmp_path)), "x", range_bytes=64)

    read = reader.read_slices([("t", None), *(("t", part) for part in wanted)])
    for array, part in zip(read, [Slice(tuple((0, None) for _ in shape)), *wanted], strict=True):
        np.testing.assert_array_equal(array, full[within(part)])
    reader.verify()


def within(part: Slice) -> tuple[slice, ...]:
    return tuple(slice(start, None if length is None else start + length) for start, length in part.extents)


def test_the_damage_of_a_stored_slice_is_told_by_its_tensor_and_its_place(tmp_path: Path) -> None:
    save_slices(tmp_path / "x", [("table", text, array) for text, array in ROWS])
    directory = LocalDirectory(str(tmp_path), durable=False)
    data = bytearray(directory.read_bytes("x.data-00000-of-00001"))
    data[5 * 20 * 4 + 1] ^= 1
    directory.write_bytes("x.data-00000-of-00001", bytes(data))

    with pytest.raises(CheckpointDamagedError, match=r"tensor table \(5,7:0,3\): its checksum is"):
        BundleReader(directory, "x").verify()


def test_a_part_that_is_stored_as_it_is_is_read_alone(tmp_path: Path) -> None:
    save_slices(tmp_path / "x", [("table", text, array) for text, array in ROWS])
    sizes: list[int] = []

    reader = BundleReader(Watched(str(tmp_path), lambda _, size: sizes.append(size)), "x")
    reader.read_slice("table", Slice.parse("5,7:0,3"))

    assert sizes == [7 * 3 * 4]


@pytest.mark.parametrize("part", ["0,13:-", "0,1", "5,8:-"])
def test_a_part_that_is_not_in_the_tensor_is_refused(tmp_path: Path, part: str) -> None:
    save_v2(tmp_path / "x", {"table": FULL})

    with pytest.raises(ValueError, match=r"of shape \[12, 20\]") as refused:
        BundleReader(LocalDirectory(str(tmp_path)), "x").read_slice("table", Slice.parse(part))
    assert not isinstance(refused.value, CheckpointDamagedError)


@pytest.mark.parametrize(
    ("part", "is_whole"), [("-:-", True), ("0,12:-", True), ("0,12:0,20", True), ("0,11:-", False), ("-:1,19", False)]
)
def test_a_part_is_known_to_be_the_whole_however_it_is_written(part: str, *, is_whole: bool) -> None:
    assert Slice.parse(part).is_whole((12, 20)) is is_whole


@pytest.mark.parametrize("text", ["5", "a,b", "-1,2", "0,0", "0,5:"])
def test_what_is_no_slice_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int() has its own words
        Slice.parse(text)


@pytest.mark.parametrize(("kept", "message"), [(ROWS[:2], "only 121 are stored"), ([*ROWS[:2], ROWS[1]], "overlap")])
def test_slices_that_do_not_make_up_the_tensor_are_damage(
    tmp_path: Path, kept: list[tuple[str, np.ndarray[Any, Any]]], message: str
) -> None:
    save_slices(tmp_path / "x", [("table", text, array) for text, array in ROWS])
    directory = LocalDirectory(str(tmp_path), durable=False)
    index = Index.parse(directory.read_bytes("x.index"))
    slices = [parse_shape_and_slice(text) for text, _ in kept]
    table = replace(index.entries["table"], slices=tuple(each[1] for each in slices if each))
    directory.write_bytes("x.index", index_bytes([*({**index.entries, "table": table}).values()], shards=1))

    with pytest.raises(CheckpointDamagedError, match=rf"x\.index is damaged: tensor table: .*{message}"):
        BundleReader(directory, "x").verify()
    with pytest.raises(CheckpointDamagedError, match=message):
        BundleReader(directory, "x").read()


def test_the_state_of_an_iterator_is_verified_but_is_no_array(tmp_path: Path) -> None:
    checkpoint = tf.train.Checkpoint(iterator=iter(tf.data.Dataset.range(100).shuffle(5).batch(3)))
    checkpoint.write(str(tmp_path / "x"))
    directory = LocalDirectory(str(tmp_path), durable=False)
    reader = BundleReader(directory, "x")
    variants = [entry for entry in reader.entries.values() if entry.dtype == "variant"]
    assert variants

    reader.verify()
    assert index_bytes(reader.index.entries.values(), shards=1) == directory.read_bytes("x.index")
    with pytest.raises(ValueError, match="'variant' are no arrays"):
        reader.read()
    data = bytearray(directory.read_bytes("x.data-00000-of-00001"))
    data[variants[0].offset + variants[0].size_bytes // 2] ^= 1
    directory.write_bytes("x.data-00000-of-00001", bytes(data))
    with pytest.raises(CheckpointDamagedError, match=r"tensor .*iterator.*: the checksum of its element"):
        BundleReader(directory, "x").verify()


def test_verifying_takes_no_memory_for_the_tensors(directory: LocalDirectory) -> None:
    write_bundle(directory, "x", {"a": random_array("float32", (4 << 20,))})
    reader = BundleReader(directory, "x", threads=2, range_bytes=1 << 20)

    tracemalloc.start()
    try:
        reader.verify()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 4 << 20


# What is damaged


def read_or_refuse(directory: Directory, written: Arrays) -> str:
    """ "read", or the message of the error; anything else than the right tensors fails."""
    try:
        reader = BundleReader(directory, "x", threads=2, range_bytes=512)
        read = reader.read()
        reader.verify()
    except CheckpointDamagedError as error:
        return str(error)
    assert_same(read, written)
    return "read"


@pytest.mark.parametrize("nonce", [b"", b"nonce"])
def test_no_flipped_bit_goes_unnoticed(directory: LocalDirectory, nonce: bytes) -> None:
    written = some_arrays()
    write_bundle(directory, "x", written, shards=2, nonce=nonce)
    chance = random.Random(5)

    for name in ("x.index", "x.data-00000-of-00002", "x.data-00001-of-00002"):
        good = directory.read_bytes(name)
        end = len(good) - len(nonce) * (name != "x.index")  # the nonce at the end of a data file is read by nobody
        for position in chance.sample(range(end), min(end, 120)):
            bad = bytearray(good)
            bad[position] ^= 1 << chance.randrange(8)
            directory.write_bytes(name, bytes(bad))
            assert name in read_or_refuse(directory, written), position
        directory.write_bytes(name, good)
    assert read_or_refuse(directory, written) == "read"


def test_no_truncation_or_lost_file_goes_unnoticed(directory: LocalDirectory) -> None:
    written = some_arrays()
    write_bundle(directory, "x", written, shards=2)

    for name in ("x.index", "x.data-00000-of-00002", "x.data-00001-of-00002"):
        good = directory.read_bytes(name)
        for size in {0, 1, len(good) // 2, len(good) - 48, len(good) - 1}:
            directory.write_bytes(name, good[: max(0, size)])
            assert name in read_or_refuse(directory, written)
        if name != "x.index":
            directory.delete(name)
            assert f"{name} is missing" in read_or_refuse(directory, written)
        directory.write_bytes(name, good)
    assert read_or_refuse(directory, written) == "read"


def test_data_files_that_were_swapped_or_are_of_another_step_are_noticed(directory: LocalDirectory) -> None:
    written = {name: random_array("float32", (50,), seed) for seed, name in enumerate("abcd")}
    write_bundle(directory, "x", written, shards=2)
    write_bundle(directory, "other", {**written, "a": written["b"]}, shards=2)
    names = ["x.data-00000-of-00002", "x.data-00001-of-00002"]
    first, second = (directory.read_bytes(name) for name in names)

    directory.write_bytes(names[0], second)
    directory.write_bytes(names[1], first)
    swapped = read_or_refuse(directory, written)
    directory.write_bytes(names[1], second)
    directory.write_bytes(names[0], directory.read_bytes("other.data-00000-of-00002"))
    of_another_step = read_or_refuse(directory, written)

    assert "data-00000-of-00002 is damaged: tensor a: its checksum" in swapped
    assert "data-00000-of-00002 is damaged: tensor a: its checksum" in of_another_step


@given(st.binary(max_size=600))
@settings(deadline=None, suppress_health_check=WITH_TMP_PATH)
def test_garbage_is_refused(tmp_path: Path, garbage: bytes) -> None:
    directory = LocalDirectory(str(tmp_path), durable=False)
    footer = bytes.fromhex("57fb808b247547db")
    directory.write_bytes("x.data-00000-of-00001", garbage)

    for index in (garbage, garbage + footer):
        directory.write_bytes("x.index", index)
        assert "x.index is damaged" in read_or_refuse(directory, {})


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=WITH_TMP_PATH)
def test_an_index_with_good_checksums_and_bad_content_is_refused_or_harmless(
    tmp_path: Path, data: st.DataObject
) -> None:
    directory = LocalDirectory(str(tmp_path), durable=False)
    written = some_arrays()
    write_bundle(directory, "x", written)
    items = list(read_table(directory.read_bytes("x.index")))
    number = data.draw(st.integers(0, len(items) - 1))
    key, value = items[number]
    position = data.draw(st.integers(0, len(value) - 1))
    changed = value[:position] + data.draw(st.binary(max_size=12)) + value[position + data.draw(st.integers(0, 3)) :]
    items[number] = (key, changed)
    directory.write_bytes("x.index", table_bytes(items))

    tracemalloc.start()
    try:
        reader = BundleReader(directory, "x")
        read = reader.read()
        reader.verify()
    except (CheckpointDamagedError, ValueError) as error:
        assert isinstance(error, CheckpointDamagedError) or "are no arrays" in str(error)  # noqa: PT017
    else:
        # The bytes of a tensor are those that were written, whatever the index now says of its dtype or shape.
        assert all(content(read[name]) == content(array) for name, array in written.items() if name in read)
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 10 << 20


def with_header(directory: LocalDirectory, header: bytes) -> None:
    items = list(read_table(directory.read_bytes("x.index")))
    directory.write_bytes("x.index", table_bytes([(b"", header), *items[1:]]))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("08 01 10 01 1a 02 08 01", "other byte order"),
        ("08 01 1a 04 08 02 10 02", "asks for a reader of version 2"),
        ("08 01 1a 05 08 02 1a 01 01", "asks for a reader"),
        ("08 ff ff ff ff 07 1a 02 08 01", "2147483647 data files for 5 tensors"),
        ("1a 02 08 01", "0 data files"),
        ("ff", "its header cannot be read"),
    ],
)
def test_a_header_that_cannot_be_is_refused(directory: LocalDirectory, header: str, message: str) -> None:
    write_bundle(directory, "x", some_arrays())
    with_header(directory, bytes.fromhex(header))

    with pytest.raises(CheckpointDamagedError, match=message):
        BundleReader(directory, "x")


def test_a_compressed_block_is_refused(directory: LocalDirectory) -> None:
    write_bundle(directory, "x", some_arrays())
    index = bytearray(directory.read_bytes("x.index"))
    # The first block begins the file; the second is empty, and has eight bytes and its trailer.
    end = len(index) - 48 - 5 - 8
    kind = next(at for at in range(end) if index[at + 1 : at + 5] == stored_checksum(index[: at + 1]))
    index[kind] = 1
    index[kind + 1 : kind + 5] = stored_checksum(index[: kind + 1])
    directory.write_bytes("x.index", bytes(index))

    with pytest.raises(CheckpointDamagedError, match=r"is compressed \(kind 1\)"):
        BundleReader(directory, "x")


def stored_checksum(data: bytearray) -> bytes:
    return mask(crc32c.crc32c(data)).to_bytes(4, "little")


# What changes while it is read


def test_a_checkpoint_without_an_index_is_none(directory: LocalDirectory) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"no checkpoint .*x: it has no index"):
        BundleReader(directory, "x")


def test_a_checkpoint_that_retention_deletes_while_it_is_read_is_none(directory: LocalDirectory) -> None:
    write_bundle(directory, "x", some_arrays())

    def delete(name: str, _: int) -> None:
        directory.delete("x.index")
        directory.delete(name)

    reader = BundleReader(Watched(directory.url, delete), "x")

    with pytest.raises(CheckpointNotFoundError, match="was deleted while it was read"):
        reader.read()


@pytest.mark.parametrize(
    ("written", "error"), [("all", CheckpointNotFoundError), ("data", CheckpointDamagedError)], ids=["all", "data"]
)
def test_a_checkpoint_that_is_replaced_while_it_is_read_is_not_mixed(
    directory: LocalDirectory, written: str, error: type[Exception]
) -> None:
    arrays = {"a": random_array("float32", (5000,), 1)}
    write_bundle(directory, "x", arrays)
    good = directory.read_bytes("x.data-00000-of-00001")
    reads: list[str] = []

    def replace_once(name: str, _: int) -> None:
        reads.append(name)
        if len(reads) == 3 and written == "all":
            write_bundle(directory, "x", {"a": -arrays["a"]})
        elif len(reads) == 3:
            directory.write_bytes(name, good)

    reader = BundleReader(Watched(directory.url, replace_once), "x", threads=1, range_bytes=1000)

    with pytest.raises(error, match="replaced while it was read"):
        reader.read()


def test_an_error_of_the_store_is_not_taken_for_damage(directory: LocalDirectory) -> None:
    write_bundle(directory, "x", {"a": random_array("float32", (5000,), 1)})

    def fail(_: str, __: int) -> None:
        raise ConnectionError("no route")

    reader = BundleReader(Watched(directory.url, fail), "x", threads=4, range_bytes=1000)

    with pytest.raises(ConnectionError, match="no route"):
        reader.read()
