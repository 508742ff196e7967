"""Ports reserved for training processes."""

import socket

import pytest

from workers.ports import reserve_port


def test_a_reserved_port_is_free_for_its_server_and_for_nobody_else() -> None:
    with reserve_port() as port:
        with pytest.raises(OSError, match="RUNNER_PORTS"), reserve_port((port, port)):
            pass

        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind(("", port))
            server.listen()
            with socket.create_connection(("127.0.0.1", port)):
                pass
