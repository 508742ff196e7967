"""A proxy between a client and an S3 server: it counts what objects are read, and can fail."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

__all__ = ["S3Proxy", "running_proxy"]

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class S3Proxy:
    """What the requests that pass are counted by, and what befalls them. Thread-safe.

    Args:
        target: Endpoint of the server: "http://127.0.0.1:8333".

    Attributes:
        endpoint: Its own.
        has_lost_objects: Whether a write over an object that it must find unchanged is told that there is none, as AWS
            tells it: with 404, where other servers say 412.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.endpoint = ""
        self.has_lost_objects = False
        self._lock = threading.Lock()
        self._read_bytes: Counter[str] = Counter()
        self._failures: list[str] = []

    @property
    def read_bytes(self) -> dict[str, int]:
        """Bytes of all GET requests for an object, by the last part of its name."""
        with self._lock:
            return dict(self._read_bytes)

    def fail(self, *ways: str) -> None:
        """Lets the next GET requests for data files fail: "busy" is a 503, "cut" ends the connection half-way."""
        with self._lock:
            self._failures += ways

    def next_failure(self, path: str) -> str | None:
        """What is to befall this request."""
        with self._lock:
            return self._failures.pop(0) if self._failures and ".data-" in path else None

    def count(self, path: str, size_bytes: int) -> None:
        """Counts the body of an object that was read."""
        with self._lock:
            self._read_bytes[urlsplit(path).path.rpartition("/")[2]] += size_bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: S3Proxy

    def do_GET(self) -> None:
        self._pass_on()

    def do_HEAD(self) -> None:
        self._pass_on()

    def do_PUT(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def do_DELETE(self) -> None:
        self._pass_on()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - signature of the base
        pass

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        failure = self.proxy.next_failure(self.path) if self.command == "GET" else None
        if failure == "busy":
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        if self.proxy.has_lost_objects and self.command in {"PUT", "POST"} and "If-Match" in self.headers:
            self._answer(HTTPStatus.NOT_FOUND, {}, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        connection = http.client.HTTPConnection(self.proxy.target, timeout=60)
        try:
            # The signature covers the Host that the client asked for.
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if failure == "cut":
            self._begin(response.status, dict(response.getheaders()), len(data))
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        if self.command == "GET":
            self.proxy.count(self.path, len(data))
        self._answer(response.status, dict(response.getheaders()), data)

    def _begin(self, status: int, headers: dict[str, str], size_bytes: int) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", headers.get("Content-Length") or str(size_bytes))
        self.end_headers()

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self._begin(status, headers, len(data))
        self.wfile.write(data)


@contextmanager
def running_proxy(target: str) -> Iterator[S3Proxy]:
    """A proxy on a free port of the loopback, until the block ends."""
    proxy = S3Proxy(target)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_BoundHandler", (_Handler,), {"proxy": proxy}))
    server.daemon_threads = True
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
