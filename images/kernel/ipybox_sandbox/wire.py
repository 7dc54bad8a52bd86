"""Frames over one connection of the bridge: a JSON object a line. For the thread that owns the connection only."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Longest line in either direction, without its newline."""

MAX_IN_FLIGHT = 56
"""Requests without an answer, beyond which further ones wait here: the host refuses more than 64 of a whole kernel."""

_READ_BYTES = 256 * 1024
_ID_AT_START = re.compile(rb'^\s*\{[^{}\[\]]{0,200}?"id"\s*:\s*(\d{1,18})\b')

Reply = Mapping[str, Any]


def local_error(message: str, kind: str) -> Reply:
    """An answer that this side gives itself, in the shape of the host's."""
    return {"error": {"message": message, "data": {"kind": kind}}}


class Outbox:
    """What callers want sent. They only append, in whatever thread they are."""

    def __init__(self) -> None:
        self.requests: deque[tuple[int, bytes]] = deque()
        self.cancellations: deque[bytes] = deque()
        """They go first: what they cancel has been sent, or never will be."""

    def clear(self) -> None:
        self.requests.clear()
        self.cancellations.clear()


class Wire:
    """Frames over one connection, both directions, until it ends.

    `is_wanted` says whether anybody waits for the answer to a request, `deliver` hands the answer over.
    """

    def __init__(
        self,
        connection: socket.socket,
        wake: socket.socket,
        outbox: Outbox,
        is_wanted: Callable[[int], bool],
        deliver: Callable[[int, Reply], None],
    ) -> None:
        self._connection = connection
        self._wake = wake
        self._outbox = outbox
        self._is_wanted = is_wanted
        self._deliver = deliver
        self._in_flight: set[int] = set()
        self._unsent = memoryview(b"")
        self._line = bytearray()
        self._skipping = False

    def serve(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        connection = self._connection.fileno()
        while True:
            blocked = self._write()
            poll.register(connection, select.POLLIN | (select.POLLOUT if blocked else 0))
            for ready, events in poll.poll():
                if ready != connection:
                    drain(self._wake)
                elif events & ~select.POLLOUT and not self._read():
                    return

    def _write(self) -> bool:
        """Sends what is queued; true when the socket takes no more for now."""
        while True:
            if not self._unsent:
                frame = self._next_frame()
                if frame is None:
                    return False
                self._unsent = memoryview(frame)
            try:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
            except BlockingIOError:
                return True

    def _next_frame(self) -> bytes | None:
        if self._outbox.cancellations:
            return self._outbox.cancellations.popleft()
        while self._outbox.requests and len(self._in_flight) < MAX_IN_FLIGHT:
            request_id, frame = self._outbox.requests.popleft()
            if self._is_wanted(request_id):
                self._in_flight.add(request_id)
                return frame
        return None

    def _read(self) -> bool:
        """Takes in what has arrived; false at the end of the stream."""
        try:
            chunk = self._connection.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._extend(end)
            if self._skipping:
                self._skipping = False
            else:
                self._dispatch(self._line)
            self._line = bytearray()
        self._extend(rest)
        return bool(chunk)

    def _extend(self, part: bytes) -> None:
        if self._skipping:
            return
        self._line += part
        if len(self._line) > MAX_FRAME_BYTES:
            self._refuse(self._line)
            self._line = bytearray()
            self._skipping = True

    def _refuse(self, line: bytearray) -> None:
        """An answer over the limit is an error for its call alone, if the call can be told."""
        found = _ID_AT_START.match(line)
        if not found:
            raise OSError("an answer over the frame limit")
        self._answered(int(found[1]), local_error("the answer is too large for the bridge (limit 16 MiB)", "limit"))

    def _dispatch(self, line: bytearray) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise OSError("an answer that is not JSON") from None
        request_id = message.get("id") if isinstance(message, dict) else None
        if type(request_id) is int:
            self._answered(request_id, message)

    def _answered(self, request_id: int, reply: Reply) -> None:
        self._in_flight.discard(request_id)
        self._deliver(request_id, reply)


def drain(wake: socket.socket) -> None:
    """Takes whatever is there to be read."""
    with contextlib.suppress(BlockingIOError):
        while wake.recv(4096):
            pass
