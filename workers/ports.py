"""Reserves the port on which a training process will listen."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["reserve_port"]


@contextmanager
def reserve_port(ports: tuple[int, int] | None = None) -> Iterator[int]:
    """Holds a TCP port that a server with SO_REUSEPORT can still bind, and nobody else is given.

    Args:
        ports: First and last port to choose from; None lets the system choose.

    Yields:
        The port, reserved until the end of the context.

    Raises:
        OSError: No port of the range is free.
    """
    with socket.socket() as holder:
        _bind(holder, ports)
        # Set after the bind: with it, a bind shares the port with other holders instead of refusing it.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield holder.getsockname()[1]


def _bind(holder: socket.socket, ports: tuple[int, int] | None) -> None:
    # Every interface, as TensorFlow's server will.
    if ports is None:
        holder.bind(("", 0))
        return
    first, last = ports
    for port in range(first, last + 1):
        try:
            holder.bind(("", port))
        except OSError:
            continue
        return
    raise OSError(f"No free port in {first}-{last}: widen RUNNER_PORTS to a few ports per slot.")
