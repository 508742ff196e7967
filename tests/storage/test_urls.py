"""What names a model_dir, an object in it, and a checkpoint."""

import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import ModelDirError, StoreUnavailableError
from runner.storage.urls import is_local, join, open_directory, real_path, resolve_model_dir, split_prefix


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


@pytest.mark.parametrize("model_dir", ["s3:/bucket/iris", Path("s3://bucket/iris")])
def test_a_url_that_has_lost_a_slash_is_no_local_path(model_dir: str | Path) -> None:
    with pytest.raises(ModelDirError, match="expected s3://bucket/iris as text"):
        resolve_model_dir(model_dir)
    assert resolve_model_dir("./s3:/bucket/iris") == str(Path.cwd() / "s3:/bucket/iris")


@pytest.mark.parametrize("name", ["lr=[0.1]", "run*", "what?", "a\\b"])
def test_what_tensorflow_takes_for_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    for model_dir in (name, str(tmp_path / name / "model"), f"file:///models/{name}", f"s3://bucket/{name}"):
        with pytest.raises(ModelDirError, match=r"choose a model_dir without \*, \?, \[ and"):
            resolve_model_dir(model_dir)
    with pytest.raises(ModelDirError, match="takes for a pattern"):
        resolve_model_dir("model", base=tmp_path / name)


@pytest.mark.parametrize(
    ("model_dir", "resolved"),
    [
        ("s3://bucket/models/iris/", "s3://bucket/models/iris"),
        ("s3a://bucket/iris", "s3://bucket/iris"),
        ("s3://bucket", "s3://bucket"),
        ("memory:///iris//", "memory://iris"),
        ("memory://models/iris", "memory://models/iris"),
    ],
)
def test_one_place_on_a_store_has_one_name(model_dir: str, resolved: str) -> None:
    assert resolve_model_dir(model_dir) == resolved
    assert resolve_model_dir(resolved) == resolved


@pytest.mark.parametrize("model_dir", ["s3://", "s3:///", "s3://bucket//iris", "s3://bucket/../iris", "memory://a/./b"])
def test_a_url_without_a_plain_path_is_refused(model_dir: str) -> None:
    with pytest.raises(ModelDirError, match="expected a URL such as s3://bucket/models/iris"):
        resolve_model_dir(model_dir)


@pytest.mark.parametrize("model_dir", ["nosuch://bucket/iris", "://iris", "simplecache::s3://bucket/iris"])
def test_a_protocol_that_fsspec_does_not_know_is_refused(model_dir: str) -> None:
    with pytest.raises(ModelDirError, match=r"fsspec knows no protocol '.*'\. Give a path"):
        resolve_model_dir(model_dir)


def test_a_protocol_whose_package_is_missing_says_what_to_install() -> None:
    with pytest.raises(ModelDirError, match="the package for abfs:// is not installed here: Install adlfs"):
        resolve_model_dir("abfs://container/iris")


def test_what_nothing_installed_can_open_is_not_opened() -> None:
    with pytest.raises(ModelDirError, match="gs://bucket/iris: the package for gs:// is not installed"):
        open_directory("gs://bucket/iris")


def test_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(ModelDirError, match="has a password in it") as caught:
        resolve_model_dir("ftp://alice:xyzzy@server/iris")

    assert "xyzzy" not in str(caught.value)


def test_a_local_path_is_what_tensorflow_can_open() -> None:
    assert is_local("/models/iris")
    assert not is_local("s3://bucket/iris")


@pytest.mark.parametrize("url", ["/models/iris", "s3://bucket/iris", "memory://iris"])
def test_a_name_is_joined_to_its_directory_and_split_off_again(url: str) -> None:
    prefix = join(url, "model.ckpt-200")

    assert prefix == f"{url}/model.ckpt-200"
    assert split_prefix(prefix) == (url, "model.ckpt-200")


def test_a_relative_prefix_is_in_the_working_directory() -> None:
    assert split_prefix("model.ckpt-1") == (str(Path.cwd()), "model.ckpt-1")
    assert split_prefix(Path("runs") / "model.ckpt-1") == (str(Path.cwd() / "runs"), "model.ckpt-1")
    assert split_prefix("/model.ckpt-1") == ("/", "model.ckpt-1")
    assert split_prefix("file:///models/model.ckpt-1") == ("/models", "model.ckpt-1")


@pytest.mark.parametrize("prefix", ["", "/", "/models/", "s3://bucket", "s3://bucket/iris/", "/models/.."])
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"expected one such as /data/iris/model\.ckpt-200"):
        split_prefix(prefix)


@pytest.mark.parametrize("name", ["", "../other", "/etc", "a//b"])
def test_a_name_that_leads_out_is_not_joined(name: str) -> None:
    with pytest.raises(ValueError, match="not a name inside s3://bucket"):
        join("s3://bucket", name)


def test_links_to_a_directory_have_its_path_in_common(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "model")

    assert real_path(str(tmp_path / "link")) == str(tmp_path / "model")
    assert real_path("s3://bucket/link") == "s3://bucket/link"


def test_a_local_directory_costs_no_client_of_a_store(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from runner.storage.urls import open_directory, resolve_model_dir\n"
        "open_directory(resolve_model_dir(sys.argv[1])).write_bytes('a', b'')\n"
        "print(sorted({'botocore', 'fsspec', 's3fs'} & set(sys.modules)))\n"
    )

    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)

    assert result.stdout == "[]\n"


def test_opening_needs_no_resolving(tmp_path: Path) -> None:
    # A path with a pattern in it may be read from, only not trained in.
    directory = open_directory(str(tmp_path / "a[b]"))

    directory.write_bytes("a", b"data")

    assert (tmp_path / "a[b]" / "a").read_bytes() == b"data"


def test_a_store_that_is_not_there_when_its_client_connects_at_once_is_one_of_our_errors() -> None:
    with pytest.raises(StoreUnavailableError, match=r"Cannot open ftp://127\.0\.0\.1:1/iris: Connection refused\."):
        open_directory("ftp://127.0.0.1:1/iris")
