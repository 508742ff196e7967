"""A network between a client and a server in which things go wrong when a test wants them to."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from urllib.parse import urlsplit

__all__ = ["Fault", "FaultyProxy", "faulty_proxy"]

_HEAD_BYTES = 400
_CHUNK_BYTES = 1 << 16
_LATE_BYTES = 200_000
_SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 86\r\nConnection: close\r\n\r\n"
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>"
)


class Fault(Enum):
    """What happens to a request, once."""

    RESET = "the connection is reset before the server hears of it"
    RESET_LATE = "the connection is reset in the middle of its body"
    KILLED = "the client is killed when it has sent the first bytes: the rest never comes, and the connection is closed"
    LOST_REPLY = "the server does it, and the connection is reset before the client hears of that"
    TRUNCATED_REPLY = "the connection is closed in the middle of the reply"
    SLOW_DOWN = "the server has too much to do"
    FLIPPED_BIT = "one bit of its body arrives as its opposite"


class FaultyProxy:
    """Passes bytes on, but for the faults that wait for a request.

    Args:
        endpoint_url: Of the server.
        tls: To speak to clients; None: plain HTTP.

    Attributes:
        url: Where clients find it.
        faults: Pairs of what a request begins with, or has near its beginning, and what happens to the first such one.
        received_bytes: How much clients have sent.
    """

    def __init__(self, endpoint_url: str, *, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(endpoint_url)
        self._server = parts.hostname, parts.port
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.faults: list[tuple[bytes, Fault]] = []
        self.received_bytes = 0
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Ends all connections, and accepts no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(10)

    def hang_up(self) -> None:
        """Ends all connections."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._start(lambda client=client: self._serve(client))  # type: ignore[misc]

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self._tls:
                client = self._tls.wrap_socket(client, server_side=True)
            link = _Link(client, socket.create_connection(self._server))
        except OSError:
            client.close()
            return
        with self._lock:
            self._links.append(link)
        self._start(link.pass_replies)
        self._pass_requests(link)

    def _pass_requests(self, link: "_Link") -> None:
        with contextlib.suppress(OSError):
            while data := link.client.recv(_CHUNK_BYTES):
                self.received_bytes += len(data)
                if fault := self._fault_of(data):
                    link.begin(fault)
                link.pass_request(data)
        link.close()

    def _fault_of(self, data: bytes) -> Fault | None:
        with self._lock:
            for waiting in self.faults:
                if waiting[0] in data[:_HEAD_BYTES]:
                    self.faults.remove(waiting)
                    return waiting[1]
        return None


class _Link:
    """A client, the server, and what goes wrong between them."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self._server = server
        self._fault: Fault | None = None
        self._passed_bytes = 0

    def begin(self, fault: Fault) -> None:
        """Has it happen to the request that is about to be passed on."""
        self._fault = fault
        self._passed_bytes = 0

    def pass_request(self, data: bytes) -> None:
        """Passes on what the client sent."""
        self._passed_bytes += len(data)
        is_late = self._passed_bytes > _LATE_BYTES
        match self._fault:
            case Fault.RESET:
                self.close()
                return
            case Fault.KILLED:
                self._server.sendall(data)
                self.close(politely=True)
                return
            case Fault.RESET_LATE if is_late:
                self.close()
                return
            case Fault.SLOW_DOWN:
                self.client.sendall(_SLOW_DOWN)
                self.close(politely=True)
                return
            case Fault.FLIPPED_BIT if is_late:
                self._fault = None
                data = bytes([data[0] ^ 1]) + data[1:]
        self._server.sendall(data)

    def pass_replies(self) -> None:
        """Passes on what the server sends, until one of the two hangs up."""
        passed_bytes = 0
        with contextlib.suppress(OSError):
            while data := self._server.recv(_CHUNK_BYTES):
                if self._fault is Fault.LOST_REPLY:
                    break
                passed_bytes += len(data)
                self.client.sendall(data)
                if self._fault is Fault.TRUNCATED_REPLY and passed_bytes > _LATE_BYTES:
                    break
        # What the client has been sent of a reply that is cut off, it is to read.
        self.close(politely=self._fault is Fault.TRUNCATED_REPLY)

    def close(self, *, politely: bool = False) -> None:
        """Ends both connections, by a reset unless the client is to read what it was sent."""
        for each in (self.client, self._server):
            with contextlib.suppress(OSError):
                if not politely:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # First, for a thread that waits in recv would keep the connection open.
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def faulty_proxy(endpoint_url: str, *, tls: ssl.SSLContext | None = None) -> Iterator[FaultyProxy]:
    """A proxy for a test, which ends with it."""
    proxy = FaultyProxy(endpoint_url, tls=tls)
    try:
        yield proxy
    finally:
        proxy.close()
