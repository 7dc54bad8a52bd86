"""The frames in which the connections of a sandbox cross its carrier; docs/architecture.md, "The exec link"."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

MAX_PAYLOAD_BYTES = 64 * 1024
WINDOW_BYTES = 256 * 1024
"""Of a connection, under way to a side that has not taken them."""

_HEADER = struct.Struct(">BII")
"""Kind, connection, length of the payload."""
_CREDIT = struct.Struct(">I")


class Kind(IntEnum):
    """What a frame says."""

    OPEN = 1
    DATA = 2
    END = 3
    RESET = 4
    CREDIT = 5
    PING = 6


Frame = tuple[Kind, int, bytes]
"""What it says, of which connection, and its payload."""


def encode(kind: Kind, connection_id: int, payload: bytes | memoryview = b"") -> bytes:
    """A frame as bytes."""
    return _HEADER.pack(kind, connection_id, len(payload)) + payload


def encode_credit(credit: int) -> bytes:
    """Payload of a CREDIT."""
    return _CREDIT.pack(credit)


def decode_credit(payload: bytes) -> int:
    """Raises ValueError for what is none."""
    if len(payload) != _CREDIT.size:
        raise ValueError("a credit is no number")
    (credit,) = _CREDIT.unpack(payload)
    return int(credit)


class FrameReader:
    """Makes frames of bytes as they come."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Every frame that is complete now. Raises ValueError for what is none: the rest is out of step for good."""
        self._pending += data
        start = 0
        try:
            while len(self._pending) - start >= _HEADER.size:
                kind, connection_id, length = _HEADER.unpack_from(self._pending, start)
                if length > MAX_PAYLOAD_BYTES:
                    raise ValueError("a frame is too long")
                payload_start = start + _HEADER.size
                if len(self._pending) < payload_start + length:
                    break
                start = payload_start + length
                yield Kind(kind), connection_id, bytes(self._pending[payload_start:start])
        finally:
            del self._pending[:start]
