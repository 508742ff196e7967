"""Exports in a store without a rename: they exist whole or not at all, whatever process dies when."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from runner.errors import StorageError
from runner.estimator.export.remote_exports import RemoteExports
from runner.storage.directory import Condition
from runner.storage.local_directory import LocalDirectory

NOW = 1_700_000_000
CONTENT = {
    "assets/words.txt": b"one\ntwo\n",
    "saved_model.pb": b"model",
    "variables/variables.data-00000-of-00001": bytes(9 << 20),  # more than is sent at once
    "variables/variables.index": b"index",
}


class KilledError(BaseException):
    """Ends the process, as far as the exports can tell."""


class MortalDirectory(LocalDirectory):
    """A directory whose process is killed before one of its writes and deletions."""

    def __init__(self, url: str, *, lives: int) -> None:
        super().__init__(url)
        self.lives = lives

    def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
        self._live()
        return super().write_bytes(name, data, only=only)

    def delete(self, name: str) -> None:
        self._live()
        super().delete(name)

    def _live(self) -> None:
        if self.lives == 0:
            raise KilledError
        self.lives -= 1


def write(folder: bytes) -> None:
    for name, data in CONTENT.items():
        path = Path(os.fsdecode(folder), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def exports_in(base: Path, *, now: float = NOW, abandoned_after: timedelta = timedelta(days=1)) -> RemoteExports:
    return RemoteExports(LocalDirectory(str(base)), clock=lambda: now, abandoned_after=abandoned_after)


def files_in(base: Path) -> list[str]:
    """All but the lock of a local directory."""
    names = sorted(path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
    return [name for name in names if not name.startswith(".runner/")]


def whole(*names: int) -> list[str]:
    return sorted(f"{name}/{part}" for name in names for part in CONTENT)


def test_an_export_has_all_files_and_no_other(tmp_path: Path) -> None:
    path = exports_in(tmp_path).publish(write)

    assert path == f"{tmp_path}/{NOW}".encode()
    assert files_in(tmp_path) == whole(NOW)
    assert all((tmp_path / str(NOW) / name).read_bytes() == data for name, data in CONTENT.items())


def test_a_text_model_is_an_export_too(tmp_path: Path) -> None:
    def write_text(folder: bytes) -> None:
        Path(os.fsdecode(folder), "saved_model.pbtxt").write_text("text")

    exports = exports_in(tmp_path)
    exports.publish(write_text)

    assert exports.versions() == [str(NOW)]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: bytes) -> None:
        write(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exports_in(tmp_path).publish(fail)

    assert files_in(tmp_path) == []


def test_exports_of_one_second_get_names_of_their_own(tmp_path: Path) -> None:
    for _ in range(3):
        exports_in(tmp_path).publish(write)

    assert files_in(tmp_path) == whole(NOW, NOW + 1, NOW + 2)


def test_two_processes_at_once_get_names_of_their_own(tmp_path: Path) -> None:
    inner: list[bytes] = []

    class Interrupted(LocalDirectory):
        """Another process exports just before this one claims its name."""

        def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
            if not inner:
                inner.append(exports_in(tmp_path).publish(write))
            return super().write_bytes(name, data, only=only)

    outer = RemoteExports(Interrupted(str(tmp_path)), clock=lambda: NOW).publish(write)

    assert [path.rpartition(b"/")[2] for path in (*inner, outer)] == [b"%d" % NOW, b"%d" % (NOW + 1)]
    assert files_in(tmp_path) == whole(NOW, NOW + 1)


def kill_each_time(tmp_path: Path, act: Callable[[RemoteExports], object]) -> list[Path]:
    """Directories in which `act` was killed at each of its steps, the last one excepted."""
    bases = []
    for lives in range(100):
        base = tmp_path / str(lives)
        exports_in(base, now=NOW - 1).publish(write)
        bases.append(base)
        directory = MortalDirectory(str(base), lives=lives)
        try:
            act(RemoteExports(directory, clock=lambda: NOW))
        except KilledError:
            continue
        return bases
    raise AssertionError


def test_an_exporter_that_is_killed_leaves_no_export_that_is_not_whole(tmp_path: Path) -> None:
    bases = kill_each_time(tmp_path, lambda exports: exports.publish(write))

    assert len(bases) == len(CONTENT) + 2  # the mark, twice; the large file is no write_bytes
    for base in bases:
        for version in exports_in(base).versions():
            assert set(whole(int(version))) <= set(files_in(base))
    assert [exports_in(base).versions() for base in bases[:2]] == [[str(NOW - 1)]] * 2
    assert [exports_in(base).versions() for base in bases[-2:]] == [[str(NOW - 1), str(NOW)]] * 2


def test_what_a_killed_exporter_left_is_deleted_once_it_is_old(tmp_path: Path) -> None:
    for base in kill_each_time(tmp_path, lambda exports: exports.publish(write)):
        before = exports_in(base).versions()
        left = set(files_in(base))

        exports_in(base, now=NOW + 10).publish(write)
        assert left <= set(files_in(base)) - set(whole(NOW + 10))
        exports_in(base, now=NOW + 20, abandoned_after=timedelta(0)).publish(write)

        assert files_in(base) == whole(*map(int, before), NOW + 10, NOW + 20)


def test_a_deletion_that_is_killed_leaves_no_export_that_is_not_whole(tmp_path: Path) -> None:
    def delete(exports: RemoteExports) -> None:
        exports.publish(write)
        exports.delete_older(keep=1)

    for base in kill_each_time(tmp_path, delete):
        for version in exports_in(base).versions():
            assert set(whole(int(version))) <= set(files_in(base))
        before = exports_in(base).versions()
        exports_in(base, now=NOW + 20, abandoned_after=timedelta(0)).publish(write)
        assert files_in(base) == whole(*map(int, before), NOW + 20)


def test_the_newest_are_kept_and_what_is_no_export_is_left_alone(tmp_path: Path) -> None:
    for name in ("mine/saved_model.pb", "99999999999/saved_model.pb", "1500000000/notes.txt", "saved_model.pb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    others = files_in(tmp_path)
    for step in range(4):
        exports_in(tmp_path, now=NOW + step, abandoned_after=timedelta(0)).publish(write)

    exports_in(tmp_path).delete_older(keep=2)

    assert exports_in(tmp_path).versions() == [str(NOW + 2), str(NOW + 3)]
    assert files_in(tmp_path) == sorted([*others, *whole(NOW + 2, NOW + 3)])


def test_one_that_was_stopped_until_it_was_taken_for_dead_publishes_nothing(tmp_path: Path) -> None:
    class Stopped(LocalDirectory):
        """Stopped in the middle of its files, until another process has swept them and exported."""

        def write_bytes(self, name: str, data: bytes, *, only: Condition | None = None) -> str:
            if name == f"{NOW}/variables/variables.index":
                exports_in(tmp_path, now=NOW + 9, abandoned_after=timedelta(0)).publish(write)
            return super().write_bytes(name, data, only=only)

    with pytest.raises(StorageError, match=f"{NOW} was deleted while it was being uploaded"):
        RemoteExports(Stopped(str(tmp_path)), clock=lambda: NOW).publish(write)

    assert exports_in(tmp_path).versions() == [str(NOW + 9)]
