"""A model_dir on S3 when the network or the server fails: what was written is there, and it is what was written."""

import contextlib
import logging
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from runner.errors import ConditionFailedError, StoreUnavailableError
from runner.storage.directory import Directory, IfAbsent, IfUnchanged, Upload
from runner.storage.retry import Retry
from runner.storage.s3_directory import S3Directory
from tests.seaweed import SeaweedFS, running_seaweed, use
from tests.storage.conformance import names_in, patterned, put_all
from tests.storage.faulty_proxy import Fault, FaultyProxy, faulty_proxy

TLS = Path(__file__).parent / "tls"
SIZE_BYTES = 20 << 20  # two parts


@pytest.fixture
def proxy(s3: SeaweedFS) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3.server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def directory(s3: SeaweedFS, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Directory:
    """A directory on the server behind the proxy."""
    use({**s3.environ(), "AWS_ENDPOINT_URL_S3": proxy.url}, monkeypatch)
    return S3Directory(s3.new_url())


def offsets(upload: Upload) -> range:
    """Where the parts of an upload begin."""
    return range(0, upload.size_bytes, upload.part_size_bytes)


SENT = [Fault.RESET, Fault.RESET_LATE, Fault.LOST_REPLY, Fault.SLOW_DOWN, Fault.FLIPPED_BIT]


@pytest.mark.parametrize("fault", SENT)
def test_an_upload_survives_a_fault_of_a_part(directory: Directory, proxy: FaultyProxy, fault: Fault) -> None:
    data = patterned(SIZE_BYTES)
    proxy.faults.append((b"partNumber=1", fault))

    with directory.upload("data", SIZE_BYTES) as upload:
        put_all(upload, data)
        upload.commit()

    assert proxy.faults == []
    assert directory.read_bytes("data") == data


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.LOST_REPLY, Fault.SLOW_DOWN])
def test_an_upload_survives_faults_as_it_begins_and_ends(
    directory: Directory, proxy: FaultyProxy, fault: Fault
) -> None:
    data = patterned(SIZE_BYTES)
    proxy.faults += [(b"?uploads", fault), (b"POST ", fault)]

    with directory.upload("data", SIZE_BYTES) as upload:
        put_all(upload, data)
        upload.commit()

    assert proxy.faults == []
    assert directory.read_bytes("data") == data


@pytest.mark.parametrize("fault", SENT)
def test_a_small_upload_survives_a_fault(directory: Directory, proxy: FaultyProxy, fault: Fault) -> None:
    data = patterned(1 << 20)
    proxy.faults.append((b"PUT /models/", fault))

    with directory.upload("data", len(data)) as upload:
        put_all(upload, data)
        upload.commit()

    assert proxy.faults == []
    assert directory.read_bytes("data") == data


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.TRUNCATED_REPLY, Fault.SLOW_DOWN])
@pytest.mark.parametrize("own_requests", [True, False], ids=["own", "s3fs"])
def test_a_read_survives_a_fault(directory: Directory, proxy: FaultyProxy, fault: Fault, *, own_requests: bool) -> None:
    data = patterned(1 << 20)
    tag = directory.write_bytes("data", data)
    buffer = bytearray(len(data))
    reader = S3Directory(directory.url, own_requests=own_requests)

    proxy.faults.append((b"GET /models/", fault))
    reader.read_into("data", memoryview(buffer), tag=tag)
    proxy.faults.append((b"GET /models/", fault))

    assert buffer == data
    assert reader.read("data") == (data, tag)
    assert proxy.faults == []


def test_a_read_goes_on_where_it_was_cut_off_if_the_version_is_known(directory: Directory, proxy: FaultyProxy) -> None:
    data = patterned(4 << 20)
    tag = directory.write_bytes("data", data)
    buffer = bytearray(len(data))
    from_the_start = (b"bytes=0-", Fault.SLOW_DOWN)

    proxy.faults += [(b"bytes=0-", Fault.TRUNCATED_REPLY), from_the_start]
    directory.read_into("data", memoryview(buffer), tag=tag)

    assert buffer == data
    assert proxy.faults == [from_the_start]


def test_a_read_of_any_version_begins_anew_when_it_was_cut_off(directory: Directory, proxy: FaultyProxy) -> None:
    data = patterned(1 << 20)
    directory.write_bytes("data", data)
    buffer = bytearray(len(data))

    proxy.faults += [(b"bytes=0-", Fault.TRUNCATED_REPLY), (b"bytes=0-", Fault.SLOW_DOWN)]
    directory.read_into("data", memoryview(buffer))

    assert buffer == data
    assert proxy.faults == []


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.LOST_REPLY, Fault.SLOW_DOWN])
def test_everything_else_survives_a_fault(directory: Directory, proxy: FaultyProxy, fault: Fault) -> None:
    proxy.faults.append((b"PUT /models/", fault))
    directory.write_bytes("folder/data", b"data")
    proxy.faults.append((b"GET /models", fault))
    assert names_in(directory) == ["folder/data"]
    proxy.faults.append((b"GET /models", fault))
    assert directory.stat("folder/data") is not None
    proxy.faults.append((b"DELETE /models/", fault))
    directory.delete("folder/data")

    assert proxy.faults == []
    assert directory.stat("folder/data") is None


def test_a_connection_that_was_closed_while_it_was_idle_is_no_failure(
    directory: Directory, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    directory.write_bytes("data", b"12")
    directory.read_into("data", memoryview(bytearray(2)))

    proxy.hang_up()
    directory.read_into("data", memoryview(buffer := bytearray(2)))

    assert buffer == b"12"
    assert caplog.records == []


def test_a_conditional_upload_whose_reply_was_lost_has_succeeded(directory: Directory, proxy: FaultyProxy) -> None:
    data = patterned(SIZE_BYTES)
    assert directory.conditional

    with directory.upload("data", SIZE_BYTES, only=IfAbsent()) as upload:
        put_all(upload, data)
        proxy.faults.append((b"renameObject", Fault.LOST_REPLY))
        tag = upload.commit()

    assert proxy.faults == []
    assert directory.read("data") == (data, tag)


def test_a_conditional_write_whose_reply_was_lost_may_be_refused_for_its_own_sake(
    directory: Directory, proxy: FaultyProxy
) -> None:
    assert directory.conditional
    proxy.faults.append((b"PUT /models/", Fault.LOST_REPLY))

    with pytest.raises(ConditionFailedError, match="checkpoint"):
        directory.write_bytes("checkpoint", b"1", only=IfAbsent())

    assert directory.read_bytes("checkpoint") == b"1"


def test_a_writer_that_is_killed_in_the_middle_of_a_request_leaves_the_object_as_it_was(
    directory: Directory, proxy: FaultyProxy
) -> None:
    tag = directory.write_bytes("checkpoint", b"before")
    doomed = S3Directory(directory.url, retry=Retry(budget_secs=0))
    proxy.faults.append((b"PUT /models/", Fault.KILLED))

    with pytest.raises(StoreUnavailableError):
        doomed.write_bytes("checkpoint", patterned(200_000))

    assert proxy.faults == []
    assert directory.read("checkpoint") == (b"before", tag)


def test_eight_uploads_at_once_arrive(directory: Directory, proxy: FaultyProxy) -> None:
    contents = {f"data-{number}": patterned(SIZE_BYTES + number) for number in range(8)}
    proxy.faults += [(b"partNumber=1", Fault.RESET_LATE), (b"partNumber=2", Fault.SLOW_DOWN)]

    def write(name: str) -> str:
        with directory.upload(name, len(contents[name]), only=IfAbsent()) as upload:
            put_all(upload, contents[name])
            return upload.commit()

    with ThreadPoolExecutor(8) as threads:
        tags = list(threads.map(write, contents))

    assert proxy.faults == []
    for tag, (name, data) in zip(tags, contents.items(), strict=True):
        assert directory.read(name) == (data, tag)


def test_of_many_who_upload_a_large_object_one_does(s3_url: str) -> None:
    directory = S3Directory(s3_url)
    only: IfAbsent | IfUnchanged = IfAbsent()
    for attempt in range(3):
        uploads = [directory.upload("data", SIZE_BYTES, only=only) for _ in range(4)]
        for number, upload in enumerate(uploads):
            put_all(upload, bytes([attempt, number]) * (SIZE_BYTES // 2))
        barrier = threading.Barrier(len(uploads))

        def commit(upload: Upload, barrier: threading.Barrier = barrier) -> str | None:
            barrier.wait()
            with upload, contextlib.suppress(ConditionFailedError):
                return upload.commit()
            return None

        with ThreadPoolExecutor(len(uploads)) as threads:
            tags = list(threads.map(commit, uploads))

        (tag,) = [tag for tag in tags if tag]
        data = directory.read("data")
        assert (data.tag, data.data[:2]) == (tag, bytes([attempt, tags.index(tag)]))
        only = IfUnchanged(tag)
    assert names_in(directory) == ["data"]
    assert directory.abort_uploads(older_than=timedelta(minutes=-1)) == 0  # those that were refused left nothing


def test_a_server_that_is_frozen_or_killed_in_the_middle_of_an_upload_gets_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = patterned(4 * SIZE_BYTES)
    with running_seaweed(tmp_path) as seaweed, ThreadPoolExecutor(1) as threads:
        use(seaweed.environ(), monkeypatch)
        directory = S3Directory(seaweed.new_url())
        with directory.upload("data", len(data), only=IfAbsent()) as upload:
            half = upload.part_count // 2
            parts = [memoryview(data)[start : start + upload.part_size_bytes] for start in offsets(upload)]
            for index in range(half):
                upload.put(index, [parts[index]])

            seaweed.pause()
            frozen = threads.submit(upload.put, half, [parts[half]])
            seaweed.resume()
            frozen.result()
            seaweed.kill()
            for index in range(half + 1, upload.part_count):
                put = threads.submit(upload.put, index, [parts[index]])
            seaweed.start()
            put.result()
            tag = upload.commit()

        assert directory.read("data") == (data, tag)


def test_an_outage_longer_than_the_budget_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running_seaweed(tmp_path) as seaweed:
        use(seaweed.environ(), monkeypatch)
        url = seaweed.new_url()
        S3Directory(url).write_bytes("checkpoint", b"1")
        directory = S3Directory(url, retry=Retry(budget_secs=0.5))
        seaweed.kill()

        for call in (lambda: directory.read("checkpoint"), lambda: directory.stat("missing"), directory.list):
            with pytest.raises(StoreUnavailableError, match=r"Tried \d+ times"):
                call()
        with pytest.raises(StoreUnavailableError, match="checkpoint"):
            directory.read_into("checkpoint", memoryview(bytearray(1)))

    assert {record.levelno for record in caplog.records if record.name.startswith("runner")} == {logging.WARNING}


def test_certificates_are_those_of_botocore(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    data = patterned(SIZE_BYTES)
    with faulty_proxy(s3.server.endpoint_url, tls=tls) as proxy:
        environ = {**s3.environ(), "AWS_ENDPOINT_URL_S3": proxy.url}
        use({**environ, "AWS_CA_BUNDLE": str(TLS / "cert.pem")}, monkeypatch)
        directory = S3Directory(s3.new_url())
        with directory.upload("data", len(data)) as upload:
            put_all(upload, data)
            upload.commit()
        buffer = bytearray(len(data))
        directory.read_into("data", memoryview(buffer))
        use(environ, monkeypatch)
        distrustful = S3Directory(directory.url, retry=Retry(budget_secs=0))

        assert buffer == data
        for call in (lambda: distrustful.read("data"), lambda: distrustful.read_into("data", memoryview(buffer))):
            with pytest.raises(StoreUnavailableError, match="certificate verify failed"):
                call()


def test_a_proxy_of_the_environment_is_used(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data = patterned(SIZE_BYTES)
    use(s3.environ(), monkeypatch)
    with faulty_proxy(s3.server.endpoint_url) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        directory = S3Directory(s3.new_url())

        with directory.upload("data", len(data)) as upload:
            put_all(upload, data)
            upload.commit()

        assert proxy.received_bytes > len(data)
    assert "behind a proxy" in caplog.text


def test_what_killed_uploads_left_is_swept_once_it_is_old(directory: Directory, proxy: FaultyProxy) -> None:
    data = patterned(SIZE_BYTES)
    doomed = S3Directory(directory.url, retry=Retry(budget_secs=0))
    unfinished = doomed.upload("data", SIZE_BYTES)
    unfinished.put(0, [memoryview(data)[: unfinished.part_size_bytes]])
    nameless = doomed.upload("data", SIZE_BYTES, only=IfAbsent())
    put_all(nameless, data)
    # Twice: s3fs's client tries again by itself over a connection that has been used before.
    proxy.faults += [(b"renameObject", Fault.RESET)] * 2
    with pytest.raises(StoreUnavailableError):
        nameless.commit()

    young = directory.abort_uploads(older_than=timedelta(hours=1))
    old = directory.abort_uploads(older_than=timedelta(minutes=-1))

    assert (young, old) == (0, 2)
    assert directory.abort_uploads(older_than=timedelta(minutes=-1)) == 0
    assert names_in(directory) == []
