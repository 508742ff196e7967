"""Requests over connections that stay open, against servers of a few lines."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest
from botocore.httpsession import where

from runner.storage.s3_transport import Pieces, Transport

CREATED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def request(url: str, body: bytes = b"") -> SimpleNamespace:
    pieces = Pieces([memoryview(body)])
    headers = {"Content-Length": str(len(body)), "Expect": "100-continue"}
    return SimpleNamespace(method="PUT", url=f"{url}/bucket/key?partNumber=1", headers=headers, body=pieces)


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """URL of a server that hands each connection to a function, one at a time, and then closes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            with connection:
                serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for each in (listener, *connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture
def transport() -> Transport:
    return Transport(where(), silence_secs=0.3)


def test_small_pieces_are_joined_and_large_ones_left_where_they_are() -> None:
    large = memoryview(bytes(100_000))
    pieces = Pieces([memoryview(b"a"), memoryview(b""), memoryview(b"b"), large, memoryview(b"c"), *[large[:1]] * 3])

    first, second, third = pieces.chunks()

    assert len(pieces) == 100_006
    assert (first, third) == (b"ab", b"c\0\0\0")
    assert isinstance(second, memoryview)
    assert second.obj is large.obj


def test_a_connection_is_used_again(transport: Transport) -> None:
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heads.append(b"connection")
        while data := connection.recv(1000):
            heads.append(data.partition(b"\r\n")[0])
            connection.sendall(CREATED)

    with server(serve) as url:
        for _ in range(3):
            assert transport.send(request(url)).content == b"hi"

    assert heads == [b"connection", *[b"PUT /bucket/key?partNumber=1 HTTP/1.1"] * 3]


def test_a_silent_server_is_given_up(transport: Transport) -> None:
    def serve(connection: socket.socket) -> None:
        while connection.recv(1000):
            pass

    with server(serve) as url, pytest.raises(TimeoutError):
        transport.send(request(url))


def test_why_a_request_was_refused_is_read_even_if_the_server_did_not_take_it_all(transport: Transport) -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nConnection: close\r\n\r\nwhy"

    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(refusal)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    with server(serve) as url:
        response = transport.send(request(url, bytes(1 << 20)))

    assert (response.status_code, response.content) == (403, b"why")


def test_the_head_of_a_request_comes_with_the_beginning_of_its_body(transport: Transport) -> None:
    firsts: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        firsts.append(connection.recv(1 << 20))
        connection.sendall(CREATED)

    with server(serve) as url:
        transport.send(request(url, b"body")).content  # noqa: B018 - reads it

    assert firsts[0].endswith(b"\r\n\r\nbody")
    assert b"Expect" not in firsts[0]
