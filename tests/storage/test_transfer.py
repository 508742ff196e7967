"""Files sent to a directory and fetched from one, on any store."""

import uuid
from pathlib import Path

import numpy as np
import pytest

from runner.errors import ConditionFailedError, ObjectNotFoundError
from runner.storage.directory import Directory, IfAbsent
from runner.storage.transfer import download_file, upload_file
from runner.storage.urls import open_directory


@pytest.fixture(params=["local", "memory", "s3"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    if request.param == "s3":
        return open_directory(request.getfixturevalue("s3_url"))
    return open_directory(str(tmp_path / "model") if request.param == "local" else f"memory://{uuid.uuid4()}/model")


def file_of(path: Path, size_bytes: int) -> bytes:
    data = np.random.default_rng(size_bytes).bytes(size_bytes)
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("size_bytes", [0, 1, 8 << 20, (8 << 20) + 1, (40 << 20) + 7])
def test_a_file_comes_back_as_it_was(directory: Directory, tmp_path: Path, size_bytes: int) -> None:
    data = file_of(tmp_path / "source", size_bytes)

    upload_file(directory, "folder/name", tmp_path / "source")
    download_file(directory, "folder/name", tmp_path / "new" / "target")

    assert directory.read_bytes("folder/name") == data
    assert (tmp_path / "new" / "target").read_bytes() == data


def test_a_download_replaces_a_longer_file(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"longer than the object")
    directory.write_bytes("name", b"object")

    download_file(directory, "name", tmp_path / "target")

    assert (tmp_path / "target").read_bytes() == b"object"


@pytest.mark.parametrize("size_bytes", [1, 9 << 20])
def test_a_condition_holds_for_small_and_large_files(directory: Directory, tmp_path: Path, size_bytes: int) -> None:
    file_of(tmp_path / "source", size_bytes)
    directory.write_bytes("name", b"first")

    with pytest.raises(ConditionFailedError):
        upload_file(directory, "name", tmp_path / "source", only=IfAbsent())

    assert directory.read_bytes("name") == b"first"


def test_what_is_not_there_cannot_be_fetched(directory: Directory, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError, match=r"There is no model\.ckpt-1\.index in .*/model to copy to"):
        download_file(directory, "model.ckpt-1.index", tmp_path / "target")

    assert not (tmp_path / "target").exists()
