"""model_dir as a place: what names one, and whole reads and writes in it."""

import os
from pathlib import Path

import pytest

from runner.errors import ModelDirError
from runner.storage.directory import Directory
from runner.storage.urls import open_directory, resolve_model_dir


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return open_directory(str(tmp_path / "model"))


def test_a_relative_model_dir_is_made_absolute(tmp_path: Path) -> None:
    assert resolve_model_dir("runs/../iris/", base=tmp_path) == str(tmp_path / "iris")
    assert resolve_model_dir(Path("iris")) == str(Path.cwd() / "iris")
    assert resolve_model_dir("/models/iris") == "/models/iris"


def test_a_tilde_is_the_home_directory() -> None:
    assert resolve_model_dir("~/iris") == str(Path.home() / "iris")


def test_a_file_url_is_a_plain_path() -> None:
    assert resolve_model_dir("file:///models/iris") == "/models/iris"


@pytest.mark.parametrize("model_dir", ["", "  ", "a\0b", "file://models/iris"])
def test_what_is_not_a_place_is_refused(model_dir: str) -> None:
    with pytest.raises(ModelDirError, match="/data/models/iris"):
        resolve_model_dir(model_dir)


@pytest.mark.parametrize("name", ["lr=[0.1]", "run*", "what?", "a\\b"])
def test_what_tensorflow_takes_for_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    for model_dir in (name, str(tmp_path / name / "model"), f"file:///models/{name}"):
        with pytest.raises(ModelDirError, match=r"choose a model_dir without \*, \?, \[ and"):
            resolve_model_dir(model_dir)
    with pytest.raises(ModelDirError, match="takes for a pattern"):
        resolve_model_dir("model", base=tmp_path / name)


def test_a_scheme_that_fsspec_does_not_know_is_refused() -> None:
    with pytest.raises(ModelDirError, match=r"fsspec knows no protocol 'nosuch'"):
        resolve_model_dir("nosuch://bucket/iris")


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


def test_what_is_written_is_read_back(directory: Directory) -> None:
    assert directory.stat(".runner/code/a.zip") is None

    directory.write_bytes(".runner/code/a.zip", b"one")
    directory.write_bytes(".runner/code/a.zip", b"two")

    assert directory.stat(".runner/code/a.zip") is not None
    assert directory.read_bytes(".runner/code/a.zip") == b"two"
    assert os.listdir(f"{directory.url}/.runner/code") == ["a.zip"]


def test_a_write_replaces_the_file_and_never_changes_it(directory: Directory) -> None:
    directory.write_bytes("spec.json", b"before")

    with Path(directory.url, "spec.json").open("rb") as reader:
        directory.write_bytes("spec.json", b"after")
        assert reader.read() == b"before"


def test_a_write_that_fails_leaves_nothing(directory: Directory) -> None:
    Path(directory.url, "spec.json").mkdir(parents=True)

    with pytest.raises(OSError, match="directory"):
        directory.write_bytes("spec.json", b"data")

    assert os.listdir(directory.url) == ["spec.json"]


def test_a_missing_file_is_not_found(directory: Directory) -> None:
    with pytest.raises(FileNotFoundError):
        directory.read_bytes("spec.json")


@pytest.mark.parametrize("name", ["", ".", "/etc/passwd", "../other", "a/../../b"])
def test_a_name_outside_of_the_directory_is_refused(directory: Directory, name: str) -> None:
    for call in (directory.stat, directory.read_bytes):
        with pytest.raises(ValueError, match="not a name inside"):
            call(name)
    with pytest.raises(ValueError, match="not a name inside"):
        directory.write_bytes(name, b"")
