"""Training data of remote stores as local files."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import data
from runner.errors import DataUrlError, ObjectNotFoundError
from runner.storage.directory import Directory
from runner.storage.urls import open_directory


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNNER_DATA_CACHE_BYTES", "1e6")
    data._cache.cache_clear()
    yield tmp_path / "cache"
    data._cache.cache_clear()


@pytest.fixture
def store() -> Directory:
    return open_directory(f"memory://{uuid.uuid4()}/iris")


def test_each_url_becomes_a_path_in_the_same_order(store: Directory, cache_dir: Path) -> None:
    for name in ("b.csv", "a.csv"):
        store.write_bytes(name, name.encode())

    paths = data.local([f"{store.url}/b.csv", f"{store.url}/a.csv", f"{store.url}/b.csv"])

    assert [Path(path).read_text() for path in paths] == ["b.csv", "a.csv", "b.csv"]
    assert all(path.startswith(f"{cache_dir}/data/") for path in paths)


def test_one_url_may_be_given_as_it_is(store: Directory) -> None:
    store.write_bytes("a.csv", b"data")

    (path,) = data.local(f"{store.url}/a.csv")

    assert Path(path).read_bytes() == b"data"


def test_what_is_local_is_returned_as_it_is(cache_dir: Path) -> None:
    urls = ["/data/a.csv", "relative.csv", "file:///data/b.csv", "~/c.csv"]

    assert data.local(urls) == urls
    assert data.local("/data/part-*") == ["/data/part-*"]
    assert not cache_dir.exists()


def test_a_star_stands_for_all_objects_that_match(store: Directory) -> None:
    for name in ("part-2.gz", "part-10.gz", "part-1.txt", "deeper/part-3.gz", "part[1].gz"):
        store.write_bytes(name, name.encode())

    paths = data.local([f"{store.url}/part-*.gz", f"{store.url}/part[*.gz"])

    assert [Path(path).read_text() for path in paths] == ["part-10.gz", "part-2.gz", "part[1].gz"]


def test_a_missing_object_is_named(store: Directory) -> None:
    with pytest.raises(ObjectNotFoundError, match=r"There is no object memory://.*/iris/a\.csv\."):
        data.local([f"{store.url}/a.csv"])
    with pytest.raises(ObjectNotFoundError, match=r"No object in memory://.*/iris matches 'part-\*'"):
        data.local([f"{store.url}/part-*"])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://bucket/a", "url='nosuch://bucket/a': fsspec knows no protocol"),
        ("gs://bucket/a", "the package for gs:// is not installed"),
        ("s3://bucket", "expected that of an object in a folder"),
        ("memory://a", "expected that of an object in a folder"),
        ("memory://*/a", "only in its last part"),
        ("memory://a/../b", "expected a URL such as"),
        ("ftp://me:xyzzy@host/a", "has a password in it"),
    ],
)
def test_what_cannot_be_opened_is_a_clear_error(url: str, message: str) -> None:
    with pytest.raises(DataUrlError, match=message.replace("*", r"\*")) as caught:
        data.local(url)

    assert "xyzzy" not in str(caught.value)
