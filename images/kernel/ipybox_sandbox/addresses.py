"""Where a service of the host can be reached from inside, as one word of a command line. Standard library only.

- `/path`: a unix socket in the file system, which the host made.
- `@name`: a unix socket in the abstract namespace, which belongs to the network namespace.
- `127.0.0.1:port`: a port of the loopback.
"""

from __future__ import annotations

import contextlib
import socket

Target = str | tuple[str, int]
"""What `socket.connect` and `socket.bind` take."""


def new_socket(address: str) -> tuple[socket.socket, Target]:
    """A socket of the family that the address needs, and what it is to be connected or bound to."""
    if address.startswith("/"):
        return socket.socket(socket.AF_UNIX), address
    if address.startswith("@"):
        return socket.socket(socket.AF_UNIX), "\0" + address[1:]
    host, _, port = address.rpartition(":")
    inet = socket.socket(socket.AF_INET)
    inet.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return inet, (host, int(port))


def connect(address: str) -> socket.socket:
    """A connection, blocking."""
    connection, target = new_socket(address)
    with contextlib.ExitStack() as stack:
        stack.enter_context(connection)
        connection.connect(target)
        stack.pop_all()
    return connection


def listen(address: str, backlog: int) -> tuple[socket.socket, str]:
    """A listening socket, and its address: with port 0 one that is free."""
    listener, target = new_socket(address)
    with contextlib.ExitStack() as stack:
        stack.enter_context(listener)
        listener.bind(target)
        listener.listen(backlog)
        stack.pop_all()
    if isinstance(target, str):
        return listener, address
    host, port = listener.getsockname()
    return listener, f"{host}:{port}"
