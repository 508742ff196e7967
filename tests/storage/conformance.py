"""What every directory must do, whatever store it is on: inherited by the tests of each of them."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from runner.errors import ConditionFailedError, ObjectNotFoundError, StorageError
from runner.storage.directory import Directory, IfAbsent, IfUnchanged, Upload
from runner.storage.urls import open_directory

__all__ = ["ConditionConformance", "DirectoryConformance", "TransferConformance", "names_in", "put_all"]

ODD_NAMES = [
    "with space",
    "plus+and&equals=",
    "per%20cent%",
    "hash#question",
    "colon:tilde~",
    "quote'double\"",
    "käse/チェック",
    "{curly}(round)",
    ".hidden",
    "dots...",
    "a" * 200,
    "deep/er/and/deep/er",
]
BAD_NAMES = ["", ".", "..", "/etc/passwd", "../other", "a/../../b", "a/./b", "a//b", "a/", "nul\0", ".a.tmp-1"]


def names_in(directory: Directory, folder: str = "") -> list[str]:
    """The names of all objects in a folder and below."""
    return [entry.name for entry in directory.list(folder, recursive=True)]


def put_all(upload: Upload, data: bytes) -> None:
    """Puts all parts of an upload."""
    size = upload.part_size_bytes
    for index in range(upload.part_count):
        upload.put(index, [memoryview(data)[index * size : (index + 1) * size]])


def patterned(size_bytes: int) -> bytes:
    """Bytes of which no two aligned blocks are equal."""
    return np.arange(size_bytes // 8 + 1, dtype="<u8").tobytes()[:size_bytes]


def all_at_once(*actions: Callable[[], object]) -> list[BaseException | None]:
    """Runs each in a thread of its own, from the same moment on; what each raised."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], object]) -> BaseException | None:
        barrier.wait()
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the caller wants to see it
            return error
        return None

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(run, actions))


class TransferConformance:
    """What moves the bytes of large objects. Needs a fixture `directory`: one on the store, empty."""

    @pytest.mark.parametrize(("offset", "size"), [(0, 100_000), (0, 1), (99_999, 1), (12_345, 54_321), (100_000, 0)])
    def test_a_range_is_read_into_memory(self, directory: Directory, offset: int, size: int) -> None:
        data = patterned(100_000)
        tag = directory.write_bytes("data", data)
        buffer = bytearray(size)

        directory.read_into("data", memoryview(buffer), offset=offset, tag=tag)

        assert buffer == data[offset : offset + size]

    def test_a_range_is_read_into_an_array(self, directory: Directory) -> None:
        values = np.arange(1000, dtype=np.float32).reshape(10, 100)
        directory.write_bytes("data", b"head" + values.tobytes())
        array = np.zeros_like(values)

        directory.read_into("data", array.data, offset=4)

        assert (array == values).all()

    @pytest.mark.parametrize(("offset", "size"), [(0, 11), (10, 1), (500, 10)])
    def test_a_range_behind_the_end_is_an_error(self, directory: Directory, offset: int, size: int) -> None:
        directory.write_bytes("data", b"0123456789")

        with pytest.raises(StorageError, match="data") as caught:
            directory.read_into("data", memoryview(bytearray(size)), offset=offset)

        assert not isinstance(caught.value, FileNotFoundError | ConnectionError | PermissionError)

    def test_a_range_of_an_object_that_was_replaced_is_refused(self, directory: Directory) -> None:
        tag = directory.write_bytes("data", b"before")
        directory.write_bytes("data", b"after.")

        with pytest.raises(ConditionFailedError, match="data"):
            directory.read_into("data", memoryview(bytearray(6)), tag=tag)

    def test_an_upload_is_put_together_from_parts_in_any_order(self, directory: Directory) -> None:
        with directory.upload("folder/data", 1) as probe:
            size = 2 * probe.part_size_bytes + 12_345
        data = patterned(size)
        view = memoryview(data)

        with directory.upload("folder/data", size) as upload:
            step = upload.part_size_bytes
            parts = [view[start : start + step] for start in range(0, size, step)]
            with ThreadPoolExecutor(3) as threads:
                list(threads.map(upload.put, range(2, -1, -1), [[part] for part in reversed(parts)]))
            assert directory.stat("folder/data") is None
            tag = upload.commit()

        assert (upload.part_count, names_in(directory)) == (3, ["folder/data"])
        assert directory.read("folder/data") == (data, tag)

    def test_a_part_may_be_many_pieces(self, directory: Directory) -> None:
        data = patterned(1_500_000)
        pieces = [memoryview(data)[start : start + 777] for start in range(0, len(data), 777)]
        floats = np.arange(250, dtype=np.float32)

        with directory.upload("data", len(data) + 1000) as upload:
            upload.put(0, [memoryview(b""), *pieces, floats.data])
            upload.commit()

        assert directory.read_bytes("data") == data + floats.tobytes()

    def test_of_a_part_put_twice_the_second_counts(self, directory: Directory) -> None:
        with directory.upload("data", 5) as upload:
            upload.put(0, [memoryview(b"wrong")])
            upload.put(0, [memoryview(b"right")])
            upload.commit()

        assert directory.read_bytes("data") == b"right"

    def test_an_upload_may_be_empty(self, directory: Directory) -> None:
        with directory.upload("data", 0) as upload:
            tag = upload.commit()

        assert directory.read("data") == (b"", tag)

    def test_an_upload_replaces_an_object(self, directory: Directory) -> None:
        directory.write_bytes("data", b"before")

        with directory.upload("data", 5) as upload:
            put_all(upload, b"after")
            assert directory.read_bytes("data") == b"before"
            upload.commit()

        assert directory.read_bytes("data") == b"after"

    def test_an_upload_without_a_commit_leaves_nothing(self, directory: Directory) -> None:
        with directory.upload("data", 4) as upload:
            put_all(upload, b"data")
        upload.abort()

        assert names_in(directory) == []
        with pytest.raises(ValueError, match="ended"):
            upload.commit()

    def test_an_upload_with_a_missing_part_is_refused(self, directory: Directory) -> None:
        with directory.upload("data", 4) as upload, pytest.raises(ValueError, match=r"Parts \[0\] of data"):
            upload.commit()

        assert names_in(directory) == []

    def test_a_part_that_does_not_fit_is_refused(self, directory: Directory) -> None:
        with directory.upload("data", 4) as upload:
            for index, data in ((0, b"123"), (0, b"12345"), (1, b"1234"), (-1, b"1234")):
                with pytest.raises(ValueError, match="data"):
                    upload.put(index, [memoryview(data)])

    def test_a_committed_upload_stays(self, directory: Directory) -> None:
        with directory.upload("data", 4) as upload:
            put_all(upload, b"data")
            upload.commit()
        upload.abort()

        with pytest.raises(ValueError, match="ended"):
            upload.put(0, [memoryview(b"DATA")])
        assert directory.read_bytes("data") == b"data"


class DirectoryConformance(TransferConformance):
    """Needs a fixture `directory`: one on the store, empty."""

    @pytest.fixture
    def other(self, directory: Directory) -> Directory:
        """The same directory, opened once more."""
        return open_directory(directory.url)

    def test_an_empty_directory_lists_nothing(self, directory: Directory) -> None:
        assert directory.list() == []
        assert directory.list("folder", recursive=True) == []

    def test_being_writable_leaves_nothing(self, directory: Directory) -> None:
        directory.check_writable()

        assert names_in(directory) == []

    @pytest.mark.parametrize("data", [b"", b"one", patterned(100_000)], ids=["empty", "short", "long"])
    def test_what_is_written_is_read_back(self, directory: Directory, data: bytes) -> None:
        tag = directory.write_bytes("folder/checkpoint", data)

        assert directory.read("folder/checkpoint") == (data, tag)
        assert directory.read_bytes("folder/checkpoint") == data

    def test_all_ways_to_look_at_an_object_tell_the_same(self, directory: Directory) -> None:
        before = datetime.now(UTC)

        tag = directory.write_bytes("eval/events", b"12345")

        entry = directory.stat("eval/events")
        assert entry is not None
        assert (entry.name, entry.size_bytes, entry.tag) == ("eval/events", 5, tag)
        assert entry.modified_at.utcoffset() == timedelta(0)
        assert abs(entry.modified_at - before) < timedelta(minutes=1)
        assert [(each.name, each.size_bytes, each.tag) for each in directory.list("eval")] == [("eval/events", 5, tag)]

    def test_a_write_replaces_an_object_and_its_tag(self, directory: Directory) -> None:
        before = directory.write_bytes("spec.json", b"before")

        after = directory.write_bytes("spec.json", b"after.")

        assert after != before
        assert directory.read("spec.json") == (b"after.", after)

    def test_what_one_writes_another_sees_at_once(self, directory: Directory, other: Directory) -> None:
        assert other.list() == []
        assert other.stat("checkpoint") is None

        directory.write_bytes("checkpoint", b"1")
        assert other.read_bytes("checkpoint") == b"1"
        directory.write_bytes("checkpoint", b"23")

        assert other.read_bytes("checkpoint") == b"23"
        assert [entry.size_bytes for entry in other.list()] == [2]

    def test_a_missing_object_is_not_found(self, directory: Directory) -> None:
        directory.write_bytes("model.ckpt-10", b"")

        assert directory.stat("model.ckpt-1") is None
        for call in (directory.read, directory.read_bytes):
            with pytest.raises(ObjectNotFoundError, match=r"model\.ckpt-1"):
                call("model.ckpt-1")
        with pytest.raises(FileNotFoundError):
            directory.read_if_changed("model.ckpt-1", "tag")
        with pytest.raises(FileNotFoundError):
            directory.read_into("model.ckpt-1", memoryview(bytearray(1)))

    def test_a_folder_is_no_object(self, directory: Directory) -> None:
        directory.write_bytes("folder/object", b"")

        assert directory.stat("folder") is None
        with pytest.raises(ObjectNotFoundError):
            directory.read("folder")

    def test_below_an_object_there_is_nothing(self, directory: Directory) -> None:
        directory.write_bytes("object", b"")

        assert directory.stat("object/below") is None
        assert directory.list("object") == []
        with pytest.raises(ObjectNotFoundError):
            directory.read("object/below")

    def test_only_a_changed_object_is_read_again(self, directory: Directory) -> None:
        before = directory.write_bytes("checkpoint", b"before")

        assert directory.read_if_changed("checkpoint", before) is None
        after = directory.write_bytes("checkpoint", b"after")

        assert directory.read_if_changed("checkpoint", before) == (b"after", after)

    def test_a_listing_is_sorted_and_of_one_folder(self, directory: Directory) -> None:
        for name in ("b", "a", "eval/b", "eval/a", "eval2/c", "eval/deep/er", "eval.txt"):
            directory.write_bytes(name, b"")

        assert [entry.name for entry in directory.list()] == ["a", "b", "eval.txt"]
        assert [entry.name for entry in directory.list("eval")] == ["eval/a", "eval/b"]
        assert names_in(directory, "eval") == ["eval/a", "eval/b", "eval/deep/er"]
        assert names_in(directory) == ["a", "b", "eval.txt", "eval/a", "eval/b", "eval/deep/er", "eval2/c"]
        assert directory.list("eva") == []

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_a_name_may_have_odd_characters(self, directory: Directory, name: str) -> None:
        tag = directory.write_bytes(name, b"data")
        buffer = bytearray(4)
        directory.read_into(name, memoryview(buffer), tag=tag)

        assert buffer == b"data"
        assert directory.read(name) == (b"data", tag)
        assert names_in(directory) == [name]
        directory.delete(name)
        assert directory.stat(name) is None

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_a_name_outside_of_the_directory_is_refused(self, directory: Directory, name: str) -> None:
        calls: list[Callable[[], object]] = [
            lambda: directory.read(name),
            lambda: directory.read_bytes(name),
            lambda: directory.read_if_changed(name, "tag"),
            lambda: directory.read_into(name, memoryview(bytearray(1))),
            lambda: directory.stat(name),
            lambda: directory.write_bytes(name, b""),
            lambda: directory.upload(name, 1),
            lambda: directory.delete(name),
            *([lambda: directory.list(name)] if name else []),
        ]

        for call in calls:
            with pytest.raises(ValueError, match=r"not a name inside|is a name of files in the making"):
                call()
        assert names_in(directory) == []

    def test_a_deleted_object_is_gone(self, directory: Directory) -> None:
        directory.write_bytes("a/b", b"")
        directory.write_bytes("a/c", b"")

        directory.delete("a/b")
        directory.delete("a/b")
        directory.delete("never/there")

        assert names_in(directory) == ["a/c"]

    def test_threads_do_not_get_in_each_others_way(self, directory: Directory) -> None:
        def write_and_read(number: int) -> tuple[bytes, bytes]:
            data = patterned(10_000 + number)
            directory.write_bytes(f"folder-{number % 3}/{number}", data)
            return data, directory.read_bytes(f"folder-{number % 3}/{number}")

        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(write_and_read, range(24)))

        assert all(written == read for written, read in results)
        assert len(names_in(directory)) == 24

    def test_a_reader_sees_all_of_a_write_or_none_of_it(self, directory: Directory) -> None:
        contents = [bytes([number]) * 300_000 for number in range(12)]
        directory.write_bytes("object", contents[0])
        has_ended = threading.Event()

        def read_on() -> set[bytes]:
            seen = {directory.read_bytes("object")}
            while not has_ended.is_set():
                seen.add(directory.read_bytes("object"))
            return seen

        with ThreadPoolExecutor(2) as threads:
            readers = [threads.submit(read_on) for _ in range(2)]
            for content in contents:
                directory.write_bytes("object", content)
            has_ended.set()

        assert set().union(*(reader.result() for reader in readers)) <= set(contents)

    def test_abandoned_uploads_are_thrown_away(self, directory: Directory, other: Directory) -> None:
        young = directory.upload("young", 4)
        put_all(young, b"data")
        assert other.abort_uploads(older_than=timedelta(hours=1)) == 0
        young.commit()

        directory.upload("abandoned", 4).put(0, [memoryview(b"data")])
        other.abort_uploads(older_than=timedelta(seconds=-60))

        assert other.abort_uploads(older_than=timedelta(seconds=-60)) == 0
        assert names_in(directory) == ["young"]

    def test_a_lock_can_be_taken_again_by_its_holder(self, directory: Directory) -> None:
        with directory.locked(), directory.locked():
            tag = directory.write_bytes("checkpoint", b"inside")
            directory.write_bytes("checkpoint", b"inside, too", only=IfUnchanged(tag))
            directory.delete("missing")

        assert directory.read_bytes("checkpoint") == b"inside, too"


class ConditionConformance(DirectoryConformance):
    """For the directories that honour conditions."""

    def test_it_says_that_it_honours_conditions(self, directory: Directory) -> None:
        assert directory.conditional

    def test_what_must_be_absent_is_written_once(self, directory: Directory) -> None:
        directory.write_bytes("checkpoint", b"first", only=IfAbsent())

        with pytest.raises(ConditionFailedError, match="checkpoint") as caught:
            directory.write_bytes("checkpoint", b"second", only=IfAbsent())

        assert isinstance(caught.value, FileExistsError)
        assert directory.read_bytes("checkpoint") == b"first"
        directory.delete("checkpoint")
        directory.write_bytes("checkpoint", b"third", only=IfAbsent())

    def test_what_must_be_unchanged_is_replaced_once(self, directory: Directory) -> None:
        before = directory.write_bytes("checkpoint", b"before")
        after = directory.write_bytes("checkpoint", b"after", only=IfUnchanged(before))

        with pytest.raises(ConditionFailedError, match="checkpoint"):
            directory.write_bytes("checkpoint", b"late", only=IfUnchanged(before))

        assert directory.read("checkpoint") == (b"after", after)

    def test_what_is_missing_is_not_unchanged(self, directory: Directory) -> None:
        tag = directory.write_bytes("checkpoint", b"before")
        directory.delete("checkpoint")

        with pytest.raises(ConditionFailedError, match="checkpoint"):
            directory.write_bytes("checkpoint", b"after", only=IfUnchanged(tag))

        assert names_in(directory) == []

    def test_the_condition_of_an_upload_counts_when_it_is_committed(self, directory: Directory) -> None:
        with directory.upload("data", 4, only=IfAbsent()) as late:
            put_all(late, b"late")
            tag = directory.write_bytes("data", b"early")
            with pytest.raises(ConditionFailedError, match="data"):
                late.commit()
        with directory.upload("data", 4, only=IfUnchanged(tag)) as first:
            put_all(first, b"next")
            first.commit()
        with directory.upload("data", 4, only=IfUnchanged(tag)) as second:
            put_all(second, b"last")
            with pytest.raises(ConditionFailedError, match="data"):
                second.commit()

        assert directory.read_bytes("data") == b"next"
        assert names_in(directory) == ["data"]

    def test_of_many_who_create_an_object_one_does(self, directory: Directory) -> None:
        def create(number: int, name: str) -> None:
            directory.write_bytes(name, b"%d" % number, only=IfAbsent())

        for attempt in range(5):
            name = f"object-{attempt}"
            errors = all_at_once(*(lambda number=number, name=name: create(number, name) for number in range(6)))

            assert [type(error) for error in errors if error] == [ConditionFailedError] * 5
            assert directory.read_bytes(name) == b"%d" % errors.index(None)

    def test_of_many_who_upload_an_object_one_does(self, directory: Directory) -> None:
        def create(number: int) -> None:
            with directory.upload("data", 10, only=IfAbsent()) as upload:
                put_all(upload, b"%010d" % number)
                upload.commit()

        errors = all_at_once(*(lambda number=number: create(number) for number in range(4)))

        assert [type(error) for error in errors if error] == [ConditionFailedError] * 3
        assert directory.read_bytes("data") == b"%010d" % errors.index(None)

    def test_no_update_is_lost(self, directory: Directory, other: Directory) -> None:
        directory.write_bytes("counter", b"0")

        def count_to(place: Directory, times: int) -> None:
            for _ in range(times):
                for _attempt in itertools.count():
                    data, tag = place.read("counter")
                    try:
                        place.write_bytes("counter", b"%d" % (int(data) + 1), only=IfUnchanged(tag))
                    except ConditionFailedError:
                        continue
                    break

        errors = all_at_once(*(lambda place=place: count_to(place, 10) for place in (directory, other, directory)))

        assert errors == [None] * 3
        assert directory.read_bytes("counter") == b"30"
