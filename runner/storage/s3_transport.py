"""Sends what botocore has signed over connections that stay open, from and into memory that is not copied."""

import http.client
import select
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from botocore.awsrequest import AWSResponse

__all__ = ["Pieces", "Transport"]

_CONNECT_SECS = 10.0
# Between two signs of life, not for a request as a whole, whose length depends on the network.
_SILENCE_SECS = 30.0
_MAX_IDLE = 32
_SMALL_BYTES = 64 << 10
_JOINED_BYTES = 1 << 20

Connection = http.client.HTTPConnection


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
    headers: dict[str, Any]
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
        self._idle: dict[tuple[str, str], list[Connection]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def send(self, request: PreparedRequest, **_: object) -> AWSResponse:
        """Sends a request and reads the head of the response; a handler of botocore's event before-send.

        The connection is free again when the body of the response has been read to its end.

        Raises:
            OSError: The connection failed.
            http.client.HTTPException: The response is none of HTTP, or incomplete.
        """
        url = urlsplit(request.url)
        place = url.scheme, url.netloc
        while connection := self._idle_connection(place):
            try:
                return self._exchange(connection, place, url, request)
            except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
                # The server closed it while it was idle, which is no failure. What is sent here may be sent again.
                continue
        return self._exchange(self._new_connection(url), place, url, request)

    def _exchange(
        self, connection: Connection, place: tuple[str, str], url: SplitResult, request: PreparedRequest
    ) -> AWSResponse:
        try:
            _send(connection, url, request)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        body = _Body(response, connection, lambda: self._give_back(place, connection))
        return AWSResponse(request.url, response.status, dict(response.headers), body)

    def _idle_connection(self, place: tuple[str, str]) -> Connection | None:
        while True:
            with self._lock:
                idle = self._idle.get(place)
                connection = idle.pop() if idle else None
            if connection is None or not _is_over(connection):
                return connection
            connection.close()

    def _give_back(self, place: tuple[str, str], connection: Connection) -> None:
        with self._lock:
            idle = self._idle.setdefault(place, [])
            if len(idle) < _MAX_IDLE:
                idle.append(connection)
                return
        connection.close()

    def _new_connection(self, url: SplitResult) -> Connection:
        assert url.hostname
        connection: Connection
        if url.scheme == "https":
            connection = http.client.HTTPSConnection(
                url.hostname, url.port, timeout=_CONNECT_SECS, context=self._tls_context()
            )
        else:
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=_CONNECT_SECS)
        connection.connect()
        connection.sock.settimeout(self._silence_secs)
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context(cafile=self._ca_bundle)
            return self._tls


class _Body:
    """The body of a response, in the form in which botocore reads one."""

    def __init__(self, response: http.client.HTTPResponse, connection: Connection, done: Callable[[], None]) -> None:
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
            self._connection.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        was_closed = self._response.isclosed()
        try:
            yield
        except BaseException:
            self._connection.close()
            raise
        if not was_closed:
            self._release()

    def _release(self) -> None:
        # http.client closes a response that has been read to its end, and the connection too if the server wants it.
        if self._response.isclosed() and self._connection.sock is not None:
            self._done()


def _close_all(idle: dict[tuple[str, str], list[Connection]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()


def _send(connection: Connection, url: SplitResult, request: PreparedRequest) -> None:
    target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    connection.putrequest(request.method, target, skip_accept_encoding=True)
    for name, value in request.headers.items():
        # Waiting for the server's leave costs a round trip; what it refuses it will not have been sent often.
        if name.lower() != "expect":
            connection.putheader(name, value)
    connection.endheaders()
    try:
        _send_body(connection, request.body)
    except (BrokenPipeError, ConnectionResetError):
        # A server that refuses a request may say why and hang up, without having read it all.
        if not _has_reply(connection):
            raise


def _send_body(connection: Connection, body: Pieces | bytes | None) -> None:
    if isinstance(body, Pieces):
        for chunk in body.chunks():
            connection.send(chunk)
    elif body:
        connection.send(body)


def _has_reply(connection: Connection) -> bool:
    # Not select.select(), which fails where a process has more than a thousand files open.
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _is_over(connection: Connection) -> bool:
    """Whether an idle connection has been closed by the server: what else could there be to read."""
    return connection.sock is None or _has_reply(connection)
