"""One connection of something in the sandbox to a service of the host, carried in frames."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ipybox_sandbox.relay_frames import MAX_PAYLOAD_BYTES, WINDOW_BYTES, Kind, encode_credit


class Carrier(Protocol):
    """What carries the frames of all connections."""

    blocked: bool
    """It takes nothing for now."""
    buffer: memoryview
    """Of MAX_PAYLOAD_BYTES, for whichever connection is being read."""

    def admit(self, connection: Connection) -> int | None:
        """The number of a new connection; None when there are too many."""

    def forget(self, connection_id: int) -> bool:
        """Whether it was known."""

    def send(self, kind: Kind, connection_id: int, payload: bytes | memoryview = b"") -> None:
        """Sends a frame."""


class Connection(asyncio.BufferedProtocol):
    """One connection to a service."""

    def __init__(self, carrier: Carrier, service: int) -> None:
        self.service = service
        self.ended = False
        """Nothing more comes from it."""
        self._carrier = carrier
        self._id: int | None = None
        self._credit = WINDOW_BYTES
        self._granted = WINDOW_BYTES
        self._taken = 0
        self._flowing = True
        self._host_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(0)  # what is in the buffer has not been taken
        self._id = self._carrier.admit(self)
        if self._id is None:
            transport.abort()
        else:
            self.regulate()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._carrier.buffer[: min(self._credit, MAX_PAYLOAD_BYTES)]

    def buffer_updated(self, nbytes: int) -> None:
        self._credit -= nbytes
        self._send(Kind.DATA, self._carrier.buffer[:nbytes])
        self.regulate()

    def eof_received(self) -> bool:
        self.ended = True
        self._send(Kind.END)
        return not self._host_ended  # open for the host's half

    def pause_writing(self) -> None:
        self._flowing = False

    def resume_writing(self) -> None:
        self._flowing = True
        self._grant()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._id is not None and self._carrier.forget(self._id) and not (self.ended and self._host_ended):
            self._send(Kind.RESET)

    def regulate(self) -> None:
        """Reads on, or not."""
        if self.ended:
            return
        if self._credit > 0 and not self._carrier.blocked:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        self._granted -= len(data)
        if self._granted < 0 or self._host_ended:
            raise ValueError("more data than granted")
        self._transport.write(data)
        self._taken += len(data)
        self._grant()

    def end(self) -> None:
        self._host_ended = True
        if self.ended:
            self._transport.close()
        else:
            self._transport.write_eof()

    def add_credit(self, credit: int) -> None:
        self._credit += credit
        if self._credit > WINDOW_BYTES:
            raise ValueError("more credit than the window")
        self.regulate()

    def abort(self) -> None:
        self._transport.abort()

    def _grant(self) -> None:
        """Lets the host send more, when it is worth a frame."""
        if self._flowing and self._taken >= WINDOW_BYTES // 4:
            self._send(Kind.CREDIT, encode_credit(self._taken))
            self._granted += self._taken
            self._taken = 0

    def _send(self, kind: Kind, payload: bytes | memoryview = b"") -> None:
        if self._id is not None:
            self._carrier.send(kind, self._id, payload)
