"""A port on the sandbox's own loopback whose bytes go to a service of the host.

A sandbox without network still has `lo`, and HTTP clients know TCP only. What is behind the address decides what may
be reached; nothing here does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from ipybox_sandbox import process
from ipybox_sandbox.addresses import new_socket

CHUNK_BYTES = 64 * 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Forward for a whole sandbox, from a listening socket that init made, for as long as init lives."""
    parser = argparse.ArgumentParser(prog="ipybox-forwarder", description=__doc__)
    parser.add_argument("--listener-fd", type=int, required=True)
    parser.add_argument("--address", required=True)
    options = parser.parse_args(argv)
    process.die_with(os.getppid())
    process.forbid_inspection()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(socket.socket(fileno=options.listener_fd), options.address))
    return 0


def start_forwarder(address: str) -> int:
    """Forward connections in a background thread that ends with the process; return the port on 127.0.0.1."""
    listener = socket.create_server(("127.0.0.1", 0))
    serving = _serve(listener, address)
    threading.Thread(target=asyncio.run, args=(serving,), name="forwarder", daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


async def open_forwarder(listener: socket.socket, address: str) -> asyncio.Server:
    """Serve a listening socket in the running loop; each connection gets one of its own to the address."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection, target = new_socket(address)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, target)
        except OSError:
            connection.close()
            writer.close()
            return
        host_reader, host_writer = await asyncio.open_connection(sock=connection)
        try:
            await asyncio.gather(_pump(reader, host_writer), _pump(host_reader, writer))
        finally:
            writer.close()
            host_writer.close()

    return await asyncio.start_server(accept, sock=listener)


async def _serve(listener: socket.socket, address: str) -> None:
    async with await open_forwarder(listener, address) as server:
        await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end of the stream, and pass that end on while the other direction stays open."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


if __name__ == "__main__":
    sys.exit(main())
