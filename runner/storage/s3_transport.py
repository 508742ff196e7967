"""Sends what botocore has signed over connections that stay open, from and into memory that is not copied."""

import http.client
import select
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from botocore.awsrequest import AWSResponse
from botocore.exceptions import SSLError

__all__ = ["Pieces", "Transport"]

_CONNECT_SECS = 10.0
# Between two signs of life, not for a request as a whole, whose length depends on the network. A store that many
# readers ask at the same time may take its time for each.
_SILENCE_SECS = 60.0
_MAX_IDLE = 32
_SMALL_BYTES = 64 << 10
_JOINED_BYTES = 1 << 20
_JOINED_HEAD_BYTES = 8 << 10
_TLS_PORT = 443


class Pieces:
    """A body that lies in memory in pieces; to botocore a file that nobody has to read to know its length."""

    def __init__(self, views: Sequence[memoryview]) -> None:
        self._views = [view.cast("B") for view in views if view.nbytes]
        self._size_bytes = sum(map(len, self._views))

    def __len__(self) -> int:
        return self._size_bytes

    def chunks(self) -> Iterator[memoryview | bytes]:
        """Its bytes in portions that are worth a call of the system: small ones joined, large ones as they lie."""
        small: list[memoryview] = []
        small_bytes = 0
        for view in self._views:
            is_large = len(view) >= _SMALL_BYTES
            if small and (is_large or small_bytes + len(view) > _JOINED_BYTES):
                yield b"".join(small)
                small, small_bytes = [], 0
            if is_large:
                yield view
            else:
                small.append(view)
                small_bytes += len(view)
        if small:
            yield b"".join(small)

    def read(self, _size: int = -1) -> bytes:
        """Never called; having it is what makes this a file."""
        raise NotImplementedError("A body in pieces is sent as it lies.")

    def tell(self) -> int:
        """Always the beginning: whoever sends it sends all of it."""
        return 0

    def seek(self, *_: int) -> int:
        """Always the beginning."""
        return 0


class PreparedRequest(Protocol):
    """What is used of botocore's AWSPreparedRequest."""

    method: str
    url: str
    headers: Mapping[str, Any]
    body: Pieces | bytes | None


class Transport:
    """Keeps connections open, and sends each request over one that nobody else uses meanwhile. Thread-safe.

    Args:
        ca_bundle: Path of the certificates that are trusted.
        silence_secs: How long a server may neither take nor give a byte.
    """

    def __init__(self, ca_bundle: str, *, silence_secs: float = _SILENCE_SECS) -> None:
        self._ca_bundle = ca_bundle
        self._silence_secs = silence_secs
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[str, list[socket.socket]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def send(self, request: PreparedRequest, **_: object) -> AWSResponse:
        """Sends a request and reads the head of the response; a handler of botocore's event before-send.

        The connection is free again when the body of the response has been read to its end.

        Raises:
            OSError: The connection failed.
            http.client.HTTPException: The response is none of HTTP, or incomplete.
        """
        url = urlsplit(request.url)
        place = f"{url.scheme}://{url.netloc}"
        while connection := self._idle_connection(place):
            try:
                return self._exchange(connection, place, url, request)
            except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
                # The server closed it while it was idle, which is no failure. What is sent here may be sent again.
                continue
        return self._exchange(self._connect(url), place, url, request)

    def _exchange(
        self, connection: socket.socket, place: str, url: SplitResult, request: PreparedRequest
    ) -> AWSResponse:
        response = http.client.HTTPResponse(connection, method=request.method)
        try:
            _send(connection, _head(url, request), request.body)
            response.begin()
        except BaseException:
            # Each alone would leave the connection open for the other.
            response.close()
            connection.close()
            raise
        body = _Body(response, connection, lambda: self._give_back(place, connection))
        return AWSResponse(request.url, response.status, dict(response.headers), body)

    def _idle_connection(self, place: str) -> socket.socket | None:
        while True:
            with self._lock:
                idle = self._idle.get(place)
                connection = idle.pop() if idle else None
            # What could there be to read but that the server has hung up.
            if connection is None or not _is_readable(connection):
                return connection
            connection.close()

    def _give_back(self, place: str, connection: socket.socket) -> None:
        with self._lock:
            idle = self._idle.setdefault(place, [])
            if len(idle) < _MAX_IDLE:
                idle.append(connection)
                return
        connection.close()

    def _connect(self, url: SplitResult) -> socket.socket:
        is_tls = url.scheme == "https"
        address = url.hostname or "", url.port or (_TLS_PORT if is_tls else http.client.HTTP_PORT)
        connection = socket.create_connection(address, timeout=_CONNECT_SECS)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if is_tls:
                connection = self._tls_context().wrap_socket(connection, server_hostname=url.hostname)
        except ssl.SSLError as error:
            connection.close()
            # Its number is one of OpenSSL's, not one of the system's.
            raise SSLError(endpoint_url=f"{url.scheme}://{url.netloc}", error=error) from error
        except BaseException:
            connection.close()
            raise
        connection.settimeout(self._silence_secs)
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context(cafile=self._ca_bundle)
            return self._tls


class _Body:
    """The body of a response, in the form in which botocore reads one."""

    def __init__(self, response: http.client.HTTPResponse, connection: socket.socket, done: Callable[[], None]) -> None:
        self._response = response
        self._connection = connection
        self._done = done
        self._release()

    def stream(self) -> Iterator[bytes]:
        """All of it."""
        yield self.read()

    def read(self, size: int | None = None) -> bytes:
        """Up to so many bytes, or all that are left."""
        with self._reading():
            return self._response.read(size)

    def readinto(self, buffer: memoryview) -> int:
        """Fills a buffer as far as there is something to fill it with."""
        with self._reading():
            return self._response.readinto(buffer)

    def close(self) -> None:
        """Gives up what has not been read, and the connection with it."""
        if not self._response.isclosed():
            self._close_all()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        was_closed = self._response.isclosed()
        try:
            yield
        except BaseException:
            self._close_all()
            raise
        if not was_closed:
            self._release()

    def _release(self) -> None:
        # http.client closes a response that has been read to its end, and knows whether the server hangs up then.
        if not self._response.isclosed():
            return
        if self._response.will_close or self._response.length:
            self._connection.close()
        else:
            self._done()

    def _close_all(self) -> None:
        self._response.close()
        self._connection.close()


def _head(url: SplitResult, request: PreparedRequest) -> bytes:
    target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {url.netloc}"]
    # To wait for the server's leave to send the body would cost a round trip.
    lines += [f"{name}: {_text(value)}" for name, value in request.headers.items() if name.lower() != "expect"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _send(connection: socket.socket, head: bytes, body: Pieces | bytes | None) -> None:
    chunks = iter(body.chunks() if isinstance(body, Pieces) else [body] if body else [])
    first = memoryview(next(chunks, b""))
    try:
        # Head and beginning in one call: if the sender is killed between the two, SeaweedFS 4.48 takes the head alone
        # for an empty object, whatever length and checksum it tells, and puts that in the place of the one before.
        connection.sendall(head + first[:_JOINED_HEAD_BYTES])
        connection.sendall(first[_JOINED_HEAD_BYTES:])
        for chunk in chunks:
            connection.sendall(chunk)
    except (BrokenPipeError, ConnectionResetError):
        # A server that refuses a request may say why and hang up, without having read it all.
        if not _is_readable(connection):
            raise


def _is_readable(connection: socket.socket) -> bool:
    # Not select.select(), which fails where a process has more than a thousand files open.
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _close_all(idle: dict[str, list[socket.socket]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()
