"""The forwarder between a port on the loopback and a unix socket."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from ipybox_sandbox.forwarder import start_forwarder


def test_bytes_cross_both_ways_and_each_end_of_stream_by_itself(tmp_path: Path) -> None:
    path = str(tmp_path / "egress.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as incoming:
                # Reads to the end: the answer comes only after the client has shut its side.
                connection.sendall(incoming.read()[::-1])

        thread = threading.Thread(target=answer)
        thread.start()
        with socket.create_connection(("127.0.0.1", start_forwarder(path))) as client:
            client.sendall(b"x" * 1_000_000 + b"end")
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as answered:
                assert answered.read() == b"dne" + b"x" * 1_000_000
        thread.join()


def test_a_connection_is_closed_when_nobody_listens_behind(tmp_path: Path) -> None:
    port = start_forwarder(str(tmp_path / "nobody.sock"))
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert client.recv(1) == b""
