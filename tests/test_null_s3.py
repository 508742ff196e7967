"""The S3 server that keeps nothing, with which uploaders are measured, is one that checkpoints can be saved to."""

import threading
from collections.abc import Iterator

import pytest

from benchmarks.null_s3 import NullS3
from runner.errors import ConditionFailedError, ObjectNotFoundError
from runner.storage.directory import Directory, IfAbsent, IfUnchanged
from runner.storage.urls import open_directory
from tests.seaweed import use
from tests.storage.conformance import names_in, put_all


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    server = NullS3()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    keys = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_DEFAULT_REGION": "us-east-1"}
    use({**keys, "AWS_ENDPOINT_URL_S3": server.url}, monkeypatch)
    yield open_directory("s3://bucket/model")
    server.shutdown()
    thread.join()
    server.server_close()


def test_small_objects_are_kept(directory: Directory) -> None:
    tag = directory.write_bytes("checkpoint", b"data")

    assert directory.read("checkpoint") == (b"data", tag)
    assert directory.read_if_changed("checkpoint", tag) is None
    assert names_in(directory) == ["checkpoint"]
    directory.delete("checkpoint")
    with pytest.raises(ObjectNotFoundError):
        directory.read("checkpoint")


def test_conditions_are_honoured(directory: Directory) -> None:
    tag = directory.write_bytes("checkpoint", b"before", only=IfAbsent())
    directory.write_bytes("checkpoint", b"after", only=IfUnchanged(tag))

    for only in (IfAbsent(), IfUnchanged(tag)):
        with pytest.raises(ConditionFailedError):
            directory.write_bytes("checkpoint", b"late", only=only)
    assert directory.conditional


def test_of_large_objects_the_size_is_kept(directory: Directory) -> None:
    data = bytes(40_000_000)

    with directory.upload("data", len(data), only=IfAbsent()) as upload:
        put_all(upload, data)
        tag = upload.commit()

    entry = directory.stat("data")
    assert entry is not None
    assert (entry.size_bytes, entry.tag) == (len(data), tag)
