"""A directory on a local disk does what every directory must, and what only a disk can."""

import multiprocessing
import os
import stat
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.errors import ConditionFailedError, ModelDirError, StorageError, StoreFullError
from runner.storage.directory import Directory, IfAbsent, IfUnchanged
from runner.storage.local_directory import LocalDirectory
from runner.storage.urls import open_directory
from tests.storage.conformance import ConditionConformance, names_in, patterned, put_all


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return open_directory(str(tmp_path / "model"))


class TestLocalDirectory(ConditionConformance):
    pass


class TestDirectoryThatIsNotDurable(ConditionConformance):
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Directory:
        return LocalDirectory(str(tmp_path / "model"), durable=False)


def test_a_missing_directory_is_created_and_left_empty(directory: Directory) -> None:
    directory.check_writable()

    assert os.listdir(directory.url) == []


def test_a_directory_below_a_file_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for path in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(ModelDirError, match="choose another model_dir"):
            open_directory(str(path)).check_writable()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system that nobody can write")
def test_a_file_system_that_takes_no_files_is_not_writable() -> None:
    with pytest.raises(ModelDirError, match="cannot be written"):
        open_directory("/proc/self").check_writable()


def test_a_plain_write_leaves_its_file_and_nothing_else(directory: Directory) -> None:
    directory.write_bytes("spec.json", b"data")

    assert os.listdir(directory.url) == ["spec.json"]
    assert stat.S_IMODE(Path(directory.url, "spec.json").stat().st_mode) & 0o600 == 0o600


def test_a_write_replaces_the_file_and_never_changes_it(directory: Directory) -> None:
    directory.write_bytes("spec.json", b"before")

    with Path(directory.url, "spec.json").open("rb") as reader:
        directory.write_bytes("spec.json", b"after")
        assert reader.read() == b"before"


def test_a_write_that_fails_leaves_nothing(directory: Directory) -> None:
    Path(directory.url, "spec.json").mkdir(parents=True)

    with pytest.raises(StorageError, match="directory"):
        directory.write_bytes("spec.json", b"data")
    with directory.upload("spec.json", 4) as upload:
        put_all(upload, b"data")
        with pytest.raises(StorageError, match="directory"):
            upload.commit()

    assert os.listdir(directory.url) == ["spec.json"]


def test_a_write_below_a_file_is_refused(directory: Directory) -> None:
    directory.write_bytes("spec.json", b"data")

    with pytest.raises(StorageError, match=r"spec\.json is a file: nothing can be written below it"):
        directory.write_bytes("spec.json/below", b"data")


def test_files_of_others_are_seen(directory: Directory) -> None:
    folder = Path(directory.url, "eval")
    folder.mkdir(parents=True)
    (folder / "events").write_bytes(b"12345")
    os.utime(folder / "events", (1_000_000_000, 1_000_000_000))

    entry = directory.stat("eval/events")

    assert entry is not None
    assert directory.list("eval") == [entry]
    assert (entry.size_bytes, entry.modified_at) == (5, datetime.fromtimestamp(1_000_000_000, UTC))


def test_the_lock_and_files_in_the_making_are_not_listed(directory: Directory) -> None:
    with directory.locked(), directory.upload("eval/events", 10):
        assert os.listdir(f"{directory.url}/eval") != []
        assert names_in(directory) == []


def test_quick_writes_never_share_a_tag(directory: Directory) -> None:
    fast = LocalDirectory(directory.url, durable=False)

    tags = [fast.write_bytes("checkpoint", b"same") for _ in range(300)]

    assert len(set(tags)) == 300


def test_an_upload_is_reserved_on_the_disk_at_once(directory: Directory) -> None:
    with directory.upload("data", 10_000_000):
        (staged,) = Path(directory.url).iterdir()

        assert staged.stat().st_blocks * 512 >= 10_000_000


def test_an_upload_that_is_still_written_is_not_abandoned(directory: Directory) -> None:
    upload = directory.upload("data", 4)
    (staged,) = Path(directory.url).iterdir()
    hour_ago = datetime.now(UTC).timestamp() - 3600
    os.utime(staged, (hour_ago, hour_ago))
    put_all(upload, b"data")

    assert directory.abort_uploads(older_than=timedelta(minutes=30)) == 0

    upload.abort()


def test_what_a_dead_process_was_writing_is_swept(directory: Directory) -> None:
    script = (
        "import os, sys\n"
        "from runner.storage.urls import open_directory\n"
        "upload = open_directory(sys.argv[1]).upload('data', 1000)\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", script, directory.url], check=False)
    (staged,) = Path(directory.url).iterdir()
    hour_ago = datetime.now(UTC).timestamp() - 3600
    os.utime(staged, (hour_ago, hour_ago))

    assert directory.abort_uploads(older_than=timedelta(minutes=30)) == 1

    assert os.listdir(directory.url) == []


def _count_up(url: str, times: int) -> None:
    directory = open_directory(url)
    for _ in range(times):
        with directory.locked():
            data, tag = directory.read("counter")
            directory.write_bytes("counter", b"%d" % (int(data) + 1), only=IfUnchanged(tag))


def test_the_lock_keeps_other_processes_out(directory: Directory) -> None:
    directory.write_bytes("counter", b"0")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_count_up, args=(directory.url, 25)) for _ in range(2)]
    for process in processes:
        process.start()

    _count_up(directory.url, 25)

    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert directory.read_bytes("counter") == b"75"


def test_the_lock_of_a_killed_process_is_free(directory: Directory) -> None:
    script = (
        "import sys\n"
        "from runner.storage.urls import open_directory\n"
        "with open_directory(sys.argv[1]).locked():\n"
        "    print('locked', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, directory.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        process.kill()

    directory.write_bytes("checkpoint", b"data", only=IfAbsent())

    assert directory.read_bytes("checkpoint") == b"data"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_users_who_share_a_directory_share_its_lock() -> None:
    script = (
        "import os, sys\n"
        "from runner.storage.directory import IfUnchanged\n"
        "from runner.storage.local_directory import LocalDirectory\n"
        "os.setuid(65534)\n"
        "LocalDirectory(sys.argv[1]).write_bytes('checkpoint', b'after', only=IfUnchanged(sys.argv[2]))\n"
    )
    with tempfile.TemporaryDirectory() as path:  # not that of pytest, which is for one user
        os.chmod(path, 0o777)
        directory = open_directory(path)
        tag = directory.write_bytes("checkpoint", b"before", only=IfAbsent())

        subprocess.run([sys.executable, "-c", script, path, tag], check=True)

        assert directory.read_bytes("checkpoint") == b"after"


def test_a_full_disk_is_a_clear_error_and_the_object_before_stays(small_disk: Path) -> None:
    directory = open_directory(str(small_disk / "model"))
    before = patterned(5_000_000)
    tag = directory.write_bytes("model.ckpt-1", before, only=IfAbsent())

    with pytest.raises(StoreFullError, match=r"Cannot write .*ckpt-1: No space left on device\. Free some"):
        directory.write_bytes("model.ckpt-1", bytes(5_000_000), only=IfUnchanged(tag))
    with pytest.raises(StoreFullError, match=r"Cannot reserve 5000000 bytes for .*model\.ckpt-2: No space left"):
        directory.upload("model.ckpt-2", 5_000_000)

    assert directory.read("model.ckpt-1") == (before, tag)
    assert names_in(directory) == ["model.ckpt-1"]
    assert sorted(os.listdir(directory.url)) == [".runner", "model.ckpt-1"]
    directory.write_bytes("model.ckpt-2", bytes(1_000_000))


def test_a_full_disk_is_not_writable(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "rest").write_bytes(bytes(10 << 20))

    with pytest.raises(ModelDirError, match="cannot be written: No space left"):
        open_directory(str(small_disk)).check_writable()


def test_a_reader_of_a_replaced_file_is_told(directory: Directory) -> None:
    tag = directory.write_bytes("data", b"before")
    Path(directory.url, "data").write_bytes(b"foreign")

    with pytest.raises(ConditionFailedError, match="replaced while it was read"):
        directory.read_into("data", memoryview(bytearray(6)), tag=tag)
