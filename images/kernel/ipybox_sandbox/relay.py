"""The host's services as listening sockets of the sandbox, whose connections cross one pair of streams in frames.

For sandboxes that share no file system with their host: all they have is a stream in and a stream out, the *carrier*.
It runs in a thread of init, which listens before any foreign code runs and can neither be killed, stopped nor looked
into by it. docs/architecture.md, "The exec link", has the frames. Standard library only.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping
from functools import partial

from ipybox_sandbox.addresses import listen
from ipybox_sandbox.relay_connection import Connection
from ipybox_sandbox.relay_frames import MAX_PAYLOAD_BYTES, FrameReader, Kind, decode_credit, encode

SERVICES = ("gateway", "tools", "egress")
"""In the order of their numbers on the carrier."""

FORMS: Mapping[str, str] = {"abstract": "@ipybox/{service}", "loopback": "127.0.0.1:0"}
"""What can be listened on. Abstract names need a network namespace of the sandbox's own: others could take them."""

MAX_CONNECTIONS = 128
"""Of each service. The ones over it are closed at once."""

HEARTBEAT_SECONDS = 15.0
SILENCE_SECONDS = 60.0
"""After so long without a frame, the host is gone."""

_CARRIER_BUFFER_BYTES = 256 * 1024


class Relay:
    """Relays in a thread of its own, until the carrier ends or `finish` is called."""

    def __init__(self, reading: int, writing: int, form: str) -> None:
        """Owns the carrier's two descriptors from now on. `form` is one of FORMS."""
        listening = [listen(FORMS[form].format(service=service), MAX_CONNECTIONS) for service in SERVICES]
        self.addresses = [address for _, address in listening]
        """Of SERVICES, in their order."""
        self._carrier = _Carrier(reading, writing, [listener for listener, _ in listening])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def finish(self, patience_seconds: float) -> None:
        """Ends, once what was written before the other ends of its connections were closed has been passed on."""
        try:
            self._loop.call_soon_threadsafe(self._carrier.finish)
        except RuntimeError:
            return  # it has ended already
        self._thread.join(patience_seconds)

    def _run(self) -> None:
        self._loop.run_until_complete(self._carrier.serve())
        self._loop.close()


class _Carrier(asyncio.Protocol):
    """The frames, and the connections that they are about."""

    def __init__(self, reading: int, writing: int, listeners: list[socket.socket]) -> None:
        self._reading = os.fdopen(reading, "rb", 0)
        self._writing = os.fdopen(writing, "wb", 0)
        self._listeners = listeners
        self._output: asyncio.WriteTransport | None = None
        self._ended = asyncio.Event()
        self._finishing = False
        self._frames = FrameReader()
        self._heard_at = 0.0
        self._last_id = 0
        self._connections: dict[int, Connection] = {}
        self.blocked = False
        """It takes nothing for now."""
        self.buffer = memoryview(bytearray(MAX_PAYLOAD_BYTES))
        """For whichever connection is being read."""

    async def serve(self) -> None:
        """Returns at the end of the carrier; every connection is closed then."""
        loop = asyncio.get_running_loop()
        servers: list[asyncio.Server] = []
        try:
            outgoing = partial(_Outgoing, self.block, self._ended.set)
            self._output, _ = await loop.connect_write_pipe(outgoing, self._writing)
            self._output.set_write_buffer_limits(_CARRIER_BUFFER_BYTES)
            incoming, _ = await loop.connect_read_pipe(lambda: self, self._reading)
            self._heard_at = loop.time()
            self._beat()
            for service, listener in enumerate(self._listeners):
                accepted = partial(Connection, self, service)
                servers.append(await loop.create_server(accepted, sock=listener, backlog=MAX_CONNECTIONS))
            await self._ended.wait()
            incoming.close()
            if not self._output.is_closing():
                self._output.abort()
        finally:
            for server in servers:
                server.close()
            for connection in list(self._connections.values()):
                connection.abort()
            await asyncio.sleep(0)  # closed sockets close in the next turn

    def finish(self) -> None:
        self._finishing = True
        self._end_if_finished()

    def admit(self, connection: Connection) -> int | None:
        """The number of a new connection; None when there are too many."""
        of_service = [other for other in self._connections.values() if other.service == connection.service]
        if self._finishing or len(of_service) >= MAX_CONNECTIONS:
            return None
        self._last_id += 1
        self._connections[self._last_id] = connection
        self.send(Kind.OPEN, self._last_id, bytes([connection.service]))
        return self._last_id

    def forget(self, connection_id: int) -> bool:
        """Whether it was known."""
        known = self._connections.pop(connection_id, None) is not None
        self._end_if_finished()
        return known

    def send(self, kind: Kind, connection_id: int, payload: bytes | memoryview = b"") -> None:
        if self._output is not None:
            self._output.write(encode(kind, connection_id, payload))
        if kind == Kind.END:
            self._end_if_finished()

    def block(self, blocked: bool) -> None:
        self.blocked = blocked
        for connection in self._connections.values():
            connection.regulate()

    def data_received(self, data: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        try:
            for kind, connection_id, payload in self._frames.feed(data):
                self._handle(kind, connection_id, payload)
        except ValueError:
            self._ended.set()  # out of step for good

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()

    def _handle(self, kind: Kind, connection_id: int, payload: bytes) -> None:
        connection = self._connections.get(connection_id)
        if connection is None:
            return  # closed here, while the frame was under way
        match kind:
            case Kind.DATA:
                connection.write(payload)
            case Kind.END:
                connection.end()
            case Kind.CREDIT:
                connection.add_credit(decode_credit(payload))
            case Kind.RESET:
                self.forget(connection_id)
                connection.abort()

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._heard_at > SILENCE_SECONDS:
            self._ended.set()
            return
        self.send(Kind.PING, 0)
        loop.call_later(HEARTBEAT_SECONDS, self._beat)

    def _end_if_finished(self) -> None:
        if self._finishing and self._output and all(connection.ended for connection in self._connections.values()):
            self._output.close()  # once it is empty


class _Outgoing(asyncio.BaseProtocol):
    """The carrier's other half."""

    def __init__(self, on_blocked: Callable[[bool], None], on_end: Callable[[], None]) -> None:
        self._on_blocked = on_blocked
        self._on_end = on_end

    def pause_writing(self) -> None:
        self._on_blocked(True)

    def resume_writing(self) -> None:
        self._on_blocked(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()
