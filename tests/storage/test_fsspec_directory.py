"""A directory on a store that only fsspec knows: here fsspec's own client of local disks, under another name."""

import logging
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry as registered

from runner.errors import ModelDirError, StorageError, StoreUnavailableError
from runner.storage.directory import Directory, IfAbsent, IfUnchanged
from runner.storage.fsspec_directory import FsspecDirectory
from runner.storage.retry import Retry
from runner.storage.urls import open_directory, resolve_model_dir
from tests.storage.conformance import DirectoryConformance, names_in, put_all


class DiskFileSystem(LocalFileSystem):
    """Local disks as a protocol that we have no code for."""

    protocol = "disk"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = LocalFileSystem._strip_protocol(str(path).removeprefix("disk://"))
        return stripped


class FlakyFileSystem(DiskFileSystem):
    """Disks that do not answer the first two times."""

    protocol = "flaky"
    silences = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return DiskFileSystem._strip_protocol(str(path).removeprefix("flaky://"))

    def info(self, path: str, **kwargs: object) -> dict[str, object]:
        if FlakyFileSystem.silences:
            FlakyFileSystem.silences -= 1
            raise ConnectionResetError("Connection reset by peer")
        found: dict[str, object] = super().info(path, **kwargs)
        return found


@pytest.fixture(autouse=True)
def protocols() -> Iterator[None]:
    fsspec.register_implementation("disk", DiskFileSystem, clobber=True)
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    yield
    del registered["disk"], registered["flaky"]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    (tmp_path / "model").mkdir()
    return open_directory(f"disk://{tmp_path}/model")


class TestFsspecDirectory(DirectoryConformance):
    pass


def test_a_url_of_another_protocol_is_kept(tmp_path: Path) -> None:
    url = resolve_model_dir(f"disk://{tmp_path}/model/")

    assert url == f"disk://{tmp_path}/model"
    assert isinstance(open_directory(url), FsspecDirectory)


def test_conditions_are_ignored_which_the_log_says_once(directory: Directory, caplog: pytest.LogCaptureFixture) -> None:
    directory.write_bytes("checkpoint", b"first")

    directory.write_bytes("checkpoint", b"second", only=IfAbsent())
    directory.write_bytes("checkpoint", b"third", only=IfUnchanged("other"))
    with directory.upload("checkpoint", 6, only=IfAbsent()) as upload:
        put_all(upload, b"fourth")
        upload.commit()

    assert directory.read_bytes("checkpoint") == b"fourth"
    assert not directory.conditional
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert ["cannot be made conditional on disk://" in record.getMessage() for record in warnings] == [True]


def test_a_store_that_takes_nothing_is_not_writable() -> None:
    with pytest.raises(ModelDirError, match="model_dir disk:///proc/self cannot be written"):
        open_directory("disk:///proc/self").check_writable()


def test_a_client_that_cannot_write_is_not_writable() -> None:
    with pytest.raises(ModelDirError, match=r"model_dir data://text cannot be written"):
        FsspecDirectory("data://text").check_writable()


def test_a_write_that_fails_leaves_nothing(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "model" / "spec.json").mkdir()
    (tmp_path / "model" / "spec.json" / "file").touch()

    with pytest.raises(StorageError):
        directory.write_bytes("spec.json/file/below", b"data")

    assert names_in(directory) == ["spec.json/file"]


def test_a_silent_store_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_bytes(b"data")
    pauses: list[float] = []
    directory = FsspecDirectory(f"flaky://{tmp_path}", retry=Retry(sleep=pauses.append))
    FlakyFileSystem.silences = 2

    assert directory.read_bytes("spec.json") == b"data"

    assert len(pauses) == 2


def test_a_store_that_stays_silent_is_no_store_without_the_object(tmp_path: Path) -> None:
    directory = FsspecDirectory(f"flaky://{tmp_path}", retry=Retry(sleep=lambda _: None, budget_secs=0))
    FlakyFileSystem.silences = 1

    with pytest.raises(StoreUnavailableError, match=r"look for flaky://.*Connection reset by peer"):
        directory.stat("spec.json")
