"""A bucket that cannot be used says so when it is checked, and says what to do."""

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.errors import ModelDirError, StorageError, StoreAccessError, StoreUnavailableError
from runner.s3_server import S3Key
from runner.storage.directory import IfAbsent
from runner.storage.retry import Retry
from runner.storage.s3_directory import S3Directory
from tests.seaweed import SeaweedFS, use


def checked(url: str) -> str:
    """What a check of a directory complains of."""
    with pytest.raises(ModelDirError) as caught:
        S3Directory(url).check_writable()
    return str(caught.value)


@pytest.mark.usefixtures("s3_url")
def test_a_missing_bucket_is_named() -> None:
    message = checked("s3://no-such-bucket/iris")

    assert "s3://no-such-bucket/iris" in message
    assert "aws s3 mb s3://no-such-bucket" in message


@pytest.mark.usefixtures("s3_url")
def test_a_missing_bucket_is_no_empty_directory() -> None:
    directory = S3Directory("s3://no-such-bucket/iris")

    for call in (lambda: directory.stat("checkpoint"), directory.list, lambda: directory.read("checkpoint")):
        with pytest.raises(StorageError) as caught:
            call()
        assert not isinstance(caught.value, FileNotFoundError)
        assert "aws s3 mb s3://no-such-bucket" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        (S3Key("unknown", "secret"), "does not know the access key"),
        (None, "secret key is not that of the access key"),
    ],
    ids=["unknown key", "wrong secret"],
)
def test_wrong_credentials_are_told_from_each_other(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, key: S3Key | None, advice: str
) -> None:
    use(s3.environ(key or S3Key(s3.server.keys[0].access_key, "wrong")), monkeypatch)

    message = checked(s3.new_url())

    assert advice in message
    assert message.count("AWS_SECRET_ACCESS_KEY") == 1
    with pytest.raises(StoreAccessError, match=advice):
        S3Directory(s3.new_url()).read("checkpoint")


def test_missing_credentials_are_named(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = s3.environ()
    use({name: value for name, value in environ.items() if "KEY" not in name and "TOKEN" not in name}, monkeypatch)

    assert "Set AWS_ACCESS_KEY_ID" in checked(s3.new_url())


def test_a_bucket_that_can_only_be_read_is_refused_and_nothing_is_left_in_it(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = s3.new_url()
    use(s3.environ(), monkeypatch)
    owner = S3Directory(url)
    owner.write_bytes("checkpoint", b"1")
    use(s3.environ(s3.reader), monkeypatch)

    message = checked(url)

    assert "s3:PutObject" in message
    assert S3Directory(url).read_bytes("checkpoint") == b"1"
    assert [entry.name for entry in owner.list(recursive=True)] == ["checkpoint"]
    with pytest.raises(StoreAccessError):
        S3Directory(url).upload("data", 1 << 30)


def test_an_endpoint_where_nothing_answers_is_named(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    use({**s3.environ(), "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, monkeypatch)
    directory = S3Directory(s3.new_url(), retry=Retry(budget_secs=0.1))

    with pytest.raises(StoreUnavailableError, match=r"AWS_ENDPOINT_URL.* http://127\.0\.0\.1:1"):
        directory.check_writable()


class Page(http.server.BaseHTTPRequestHandler):
    """A server that answers everything alike."""

    protocol_version = "HTTP/1.1"
    status = 200
    body = b"<html>Welcome</html>"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.send_header("ETag", '"tag"')
        self.end_headers()
        self.wfile.write(self.body)

    do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815 - names of http.server

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    """URL of a web server that is none of S3."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_is_no_s3_is_told_from_one(page: str, s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    use({**s3.environ(), "AWS_ENDPOINT_URL_S3": page}, monkeypatch)
    directory = S3Directory(s3.new_url(), retry=Retry(budget_secs=0.1))

    with pytest.raises((ModelDirError, StoreUnavailableError), match=f"What answers at {page} is no S3"):
        directory.check_writable()


def test_credentials_that_expire_are_renewed(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def grant(key: S3Key) -> None:
        expires = datetime.now(UTC) + timedelta(seconds=5)
        words = {"AccessKeyId": key.access_key, "SecretAccessKey": key.secret_key, "Expiration": expires.isoformat()}
        (tmp_path / "keys.json").write_text(json.dumps({"Version": 1, **words}))

    source = "import sys; sys.stdout.write(open(sys.argv[1]).read())"
    (tmp_path / "show.py").write_text(source)
    (tmp_path / "config").write_text(
        f"[default]\ncredential_process = {sys.executable} {tmp_path}/show.py {tmp_path}/keys.json\n"
    )
    environ = {name: value for name, value in s3.environ().items() if "KEY" not in name and "TOKEN" not in name}
    use({**environ, "AWS_CONFIG_FILE": str(tmp_path / "config")}, monkeypatch)
    grant(s3.reader)
    directory = S3Directory(s3.new_url())
    with pytest.raises(StoreAccessError):
        directory.write_bytes("checkpoint", b"1")
    with directory.upload("data", 1) as upload:
        upload.put(0, [memoryview(b"1")])
        with pytest.raises(StoreAccessError):
            upload.commit()

    grant(s3.server.keys[0])
    directory.write_bytes("checkpoint", b"1")
    with directory.upload("data", 1) as upload:
        upload.put(0, [memoryview(b"1")])
        upload.commit()

    assert [entry.name for entry in directory.list()] == ["checkpoint", "data"]


def test_a_store_that_ignores_conditions_is_found_out_once(
    page: str, s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Page, "body", b"")
    use({**s3.environ(), "AWS_ENDPOINT_URL_S3": page}, monkeypatch)
    directory = S3Directory(s3.new_url())

    tag = directory.write_bytes("checkpoint", b"1", only=IfAbsent())

    assert directory.write_bytes("checkpoint", b"2", only=IfAbsent()) == tag
    assert not directory.conditional
    assert [record.levelname for record in caplog.records if "ignores the conditions" in record.message] == ["WARNING"]
