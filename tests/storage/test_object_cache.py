"""Objects of stores become files that the processes of a host share."""

import os
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.errors import ObjectNotFoundError, StorageError, StoreFullError
from runner.storage.directory import Directory
from runner.storage.object_cache import ObjectCache
from runner.storage.urls import open_directory
from tests.storage.conformance import patterned
from tests.waiting import wait_until

MAX_BYTES = 1000


@pytest.fixture
def store() -> Directory:
    return open_directory(f"memory://{uuid.uuid4()}/data")


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(tmp_path / "cache", max_bytes=MAX_BYTES)


def files_in(cache: ObjectCache) -> list[str]:
    return sorted(path.name for path in cache._path.glob("*/*"))


def use_in_another_process(cache: ObjectCache, directory: Directory, names: list[str]) -> "subprocess.Popen[str]":
    """A process that downloads objects, says so, and uses them until it is ended."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from runner.storage.object_cache import ObjectCache\n"
        "from runner.storage.urls import open_directory\n"
        "_, path, max_bytes, url, *names = sys.argv\n"
        "cache = ObjectCache(Path(path), max_bytes=int(max_bytes))\n"
        "for name in names:\n"
        "    print(cache.local(open_directory(url), name), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(cache._path), str(cache._max_bytes), directory.url, *names]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("size", [0, 5, 900])
def test_an_object_becomes_a_file_of_its_name(cache: ObjectCache, store: Directory, size: int) -> None:
    store.write_bytes("iris/train.csv", patterned(size))

    path = cache.local(store, "iris/train.csv")

    assert path.name == "train.csv"
    assert path.read_bytes() == patterned(size)


def test_an_object_of_many_parts_is_put_together(tmp_path: Path, store: Directory) -> None:
    data = patterned(40_000_001)
    store.write_bytes("train.tfrecord", data)

    path = ObjectCache(tmp_path, max_bytes=50_000_000).local(store, "train.tfrecord")

    assert path.read_bytes() == data


def test_an_object_is_downloaded_once(cache: ObjectCache, store: Directory) -> None:
    store.write_bytes("train.csv", b"data")
    first = cache.local(store, "train.csv")
    inode = first.stat().st_ino

    with ThreadPoolExecutor(8) as threads:
        paths = set(threads.map(lambda _: cache.local(store, "train.csv"), range(16)))

    assert paths == {first}
    assert first.stat().st_ino == inode
    assert ObjectCache(cache._path, max_bytes=MAX_BYTES).local(store, "train.csv").stat().st_ino == inode


def test_threads_that_want_the_same_object_get_the_same_file(cache: ObjectCache, store: Directory) -> None:
    store.write_bytes("train.csv", patterned(900))

    with ThreadPoolExecutor(8) as threads:
        paths = set(threads.map(lambda _: cache.local(store, "train.csv"), range(16)))

    assert len(paths) == 1
    assert files_in(cache) == ["train.csv"]
    assert paths.pop().read_bytes() == patterned(900)


def test_whoever_waits_for_a_download_does_not_wait_for_the_end_of_its_user(tmp_path: Path, store: Directory) -> None:
    store.write_bytes("train.csv", patterned(900))
    caches = [ObjectCache(tmp_path, max_bytes=MAX_BYTES) for _ in range(8)]  # as in as many processes

    with ThreadPoolExecutor(8) as threads:
        paths = set(threads.map(lambda cache: cache.local(store, "train.csv"), caches))

    assert len(paths) == 1


def test_an_object_that_changed_is_another_file(cache: ObjectCache, store: Directory) -> None:
    store.write_bytes("train.csv", b"before")
    before = cache.local(store, "train.csv")
    store.write_bytes("train.csv", b"after")

    after = cache.local(store, "train.csv")

    assert (before.read_bytes(), after.read_bytes()) == (b"before", b"after")


def test_the_file_that_was_not_used_for_the_longest_time_makes_room(cache: ObjectCache, store: Directory) -> None:
    for number, name in enumerate(["oldest", "old", "new"]):
        store.write_bytes(name, bytes(400))
        path = ObjectCache(cache._path, max_bytes=2000).local(store, name)  # used by nobody once it is collected
        lock = path.parent.with_suffix(".lock")
        os.utime(lock, (number, number))
    _release(cache)

    cache.local(store, "oldest")
    store.write_bytes("newest", bytes(400))
    cache.local(store, "newest")

    assert files_in(cache) == ["newest", "oldest"]


def _release(cache: ObjectCache) -> None:
    """Frees what this process holds of a cache, as its end would."""
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue
        if target.startswith(f"{cache._path}/"):
            os.close(int(descriptor))
    cache._held.clear()


def test_what_this_process_uses_is_not_deleted(cache: ObjectCache, store: Directory) -> None:
    store.write_bytes("a", bytes(600))
    store.write_bytes("b", bytes(600))
    path = cache.local(store, "a")

    with pytest.raises(StoreFullError, match=r"/b has 600 bytes.*use 600 of its 1000 bytes\. Raise RUNNER_DATA_CACHE"):
        cache.local(store, "b")

    assert path.read_bytes() == bytes(600)
    assert files_in(cache) == ["a"]


def test_what_another_process_uses_is_kept_until_its_end(tmp_path: Path, cache: ObjectCache) -> None:
    store = open_directory(str(tmp_path / "store"))
    for name in ("a", "b"):
        store.write_bytes(name, bytes(600))
    process = use_in_another_process(cache, store, ["a"])
    with process:
        path = Path(line_of(process))
        with pytest.raises(StoreFullError):
            cache.local(store, "b")
        assert path.read_bytes() == bytes(600)
        process.send_signal(signal.SIGKILL)

    cache.local(store, "b")

    assert files_in(cache) == ["b"]


def test_processes_that_start_together_share_one_download(tmp_path: Path, cache: ObjectCache) -> None:
    store = open_directory(str(tmp_path / "store"))
    names = [f"part-{number}" for number in range(8)]
    for name in names:
        store.write_bytes(name, patterned(100))
    processes = [use_in_another_process(cache, store, names) for _ in range(3)]

    paths = [[line_of(process) for _ in names] for process in processes]

    for process in processes:
        process.communicate()
    assert paths[0] == paths[1] == paths[2]
    assert files_in(cache) == names
    assert all(Path(path).read_bytes() == patterned(100) for path in paths[0])


def test_what_a_killed_download_left_is_no_file(cache: ObjectCache, store: Directory) -> None:
    store.write_bytes("train.csv", b"data")
    path = cache.local(store, "train.csv")
    _release(cache)
    path.rename(path.with_name(".train.csv.tmp-1"))  # as if killed before the rename

    assert cache.local(store, "train.csv").read_bytes() == b"data"

    assert [each.name for each in path.parent.iterdir()] == ["train.csv"]


def test_what_cannot_be_read_is_an_error_and_leaves_nothing(cache: ObjectCache, store: Directory) -> None:
    with pytest.raises(ObjectNotFoundError, match=r"There is no object memory://.*/train\.csv"):
        cache.local(store, "train.csv")
    store.write_bytes("large", bytes(MAX_BYTES + 1))
    with pytest.raises(StoreFullError, match="has 1001 bytes"):
        cache.local(store, "large")

    assert files_in(cache) == []


def test_a_cache_that_cannot_be_written_is_a_clear_error(tmp_path: Path, store: Directory) -> None:
    (tmp_path / "file").touch()
    store.write_bytes("train.csv", b"data")

    with pytest.raises(StorageError, match=r"Cannot use the cache .*file/cache: Not a directory"):
        ObjectCache(tmp_path / "file" / "cache", max_bytes=MAX_BYTES).local(store, "train.csv")


def test_objects_that_are_replaced_meanwhile_are_never_mixed(tmp_path: Path) -> None:
    store = open_directory(str(tmp_path / "store"))
    contents = [bytes([number]) * 20_000_000 for number in range(4)]
    store.write_bytes("data", contents[0])
    cache = ObjectCache(tmp_path / "cache", max_bytes=1 << 30)

    with ThreadPoolExecutor(1) as threads:
        writes = threads.submit(lambda: [store.write_bytes("data", content) for content in contents])
        seen = {cache.local(store, "data").read_bytes()}
        wait_until(writes.done)
        seen.add(cache.local(store, "data").read_bytes())

    assert seen <= set(contents)
    assert contents[-1] in seen
