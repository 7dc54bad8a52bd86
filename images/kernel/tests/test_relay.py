"""The relay, with the host's end of the carrier played by the test."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ipybox_sandbox import addresses, relay
from ipybox_sandbox.relay import MAX_CONNECTIONS, Relay
from ipybox_sandbox.relay_frames import MAX_PAYLOAD_BYTES, WINDOW_BYTES, Kind

TIMEOUT_SECONDS = 30
HEADER = struct.Struct(">BII")
"""Kind, connection, length of the payload."""
Frame = tuple[Kind, int, bytes]


class Carrier:
    """The host's end."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        outgoing, writing = os.pipe()
        self.incoming = os.fdopen(outgoing, "rb")
        self.relay = Relay(reading, writing, "loopback")
        self.closed = False

    def dial(self, service: str) -> tuple[socket.socket, int]:
        """A connection made inside, and its number."""
        connection = addresses.connect(self.relay.addresses[relay.SERVICES.index(service)])
        connection.settimeout(TIMEOUT_SECONDS)
        kind, number, payload = self.next()
        assert (kind, payload) == (Kind.OPEN, bytes([relay.SERVICES.index(service)]))
        return connection, number

    def send(self, kind: int, connection: int, payload: bytes = b"") -> None:
        data = HEADER.pack(kind, connection, len(payload)) + payload
        while data:
            data = data[os.write(self.writing, data) :]

    def frames(self) -> Iterator[Frame]:
        """What arrives, without heartbeats."""
        while len(head := self.incoming.read(HEADER.size)) == HEADER.size:
            kind, connection, length = HEADER.unpack(head)
            payload = self.incoming.read(length)
            if kind != Kind.PING:
                yield Kind(kind), connection, payload

    def next(self) -> Frame:
        return next(self.frames())

    def take(self, count: int) -> bytes:
        """So many bytes of data."""
        data = b""
        while len(data) < count:
            kind, _, payload = self.next()
            assert kind == Kind.DATA
            assert len(payload) <= MAX_PAYLOAD_BYTES
            data += payload
        assert len(data) == count
        return data

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self.writing)

    def __enter__(self) -> Carrier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        assert all(kind in Kind for kind, _, _ in self.frames())  # to its end
        self.incoming.close()


@pytest.fixture
def carrier() -> Iterator[Carrier]:
    with Carrier() as carrier:
        yield carrier


@pytest.mark.parametrize("service", relay.SERVICES)
def test_bytes_cross_both_ways_and_each_half_ends_by_itself(carrier: Carrier, service: str) -> None:
    connection, number = carrier.dial(service)
    with connection:
        connection.sendall(b"question")
        connection.shutdown(socket.SHUT_WR)
        assert carrier.take(8) == b"question"
        assert carrier.next() == (Kind.END, number, b"")
        carrier.send(Kind.DATA, number, b"answer")
        carrier.send(Kind.END, number)
        with connection.makefile("rb") as incoming:
            assert incoming.read() == b"answer"


def test_connections_do_not_mix(carrier: Carrier) -> None:
    dialled = [carrier.dial(service) for service in ("tools", "gateway", "tools", "egress")]
    for connection, number in reversed(dialled):
        carrier.send(Kind.DATA, number, str(number).encode())
        assert connection.recv(10) == str(number).encode()
        connection.sendall(b"x")
        assert carrier.next() == (Kind.DATA, number, b"x")
    for connection, _ in dialled:
        connection.close()


def test_no_more_is_sent_than_the_host_has_room_for(carrier: Carrier) -> None:
    connection, number = carrier.dial("tools")
    other, other_number = carrier.dial("tools")
    with connection, other:
        connection.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += connection.send(b"x" * 100_000)
        carrier.take(WINDOW_BYTES)
        other.sendall(b"y")  # comes through, and next
        assert carrier.next() == (Kind.DATA, other_number, b"y")
        carrier.send(Kind.CREDIT, number, struct.pack(">I", 1000))
        carrier.take(1000)


def test_the_host_may_send_more_once_what_it_sent_was_taken(carrier: Carrier) -> None:
    connection, number = carrier.dial("tools")
    with connection:
        for _ in range(WINDOW_BYTES // MAX_PAYLOAD_BYTES):
            carrier.send(Kind.DATA, number, b"x" * MAX_PAYLOAD_BYTES)
        taken = granted = 0
        while granted < WINDOW_BYTES:
            if taken < WINDOW_BYTES:
                taken += len(connection.recv(WINDOW_BYTES))
            else:
                kind, of, payload = carrier.next()
                assert (kind, of) == (Kind.CREDIT, number)
                granted += struct.unpack(">I", payload)[0]
        assert granted == WINDOW_BYTES


def test_a_connection_that_is_reset_on_one_side_is_on_the_other(carrier: Carrier) -> None:
    connection, number = carrier.dial("tools")
    with connection:
        carrier.send(Kind.RESET, number)
        assert not _receive(connection)
    connection, number = carrier.dial("tools")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert carrier.next() == (Kind.RESET, number, b"")
    carrier.send(Kind.DATA, number, b"late")  # crossed the reset: nobody's
    carrier.dial("tools")[0].close()


def test_connections_over_the_limit_are_closed_and_cost_other_services_nothing(carrier: Carrier) -> None:
    dialled = [carrier.dial("tools") for _ in range(MAX_CONNECTIONS)]
    address = carrier.relay.addresses[relay.SERVICES.index("tools")]
    with addresses.connect(address) as refused:
        refused.settimeout(TIMEOUT_SECONDS)
        assert not _receive(refused)
    carrier.dial("gateway")[0].close()
    for connection, _ in dialled:
        connection.close()


@pytest.mark.parametrize(
    "frame",
    [
        HEADER.pack(99, 1, 0),
        HEADER.pack(Kind.DATA, 1, MAX_PAYLOAD_BYTES + 1),
        HEADER.pack(Kind.CREDIT, 1, 1) + b"x",
        HEADER.pack(Kind.CREDIT, 1, 4) + b"\xff\xff\xff\xff",
        HEADER.pack(Kind.END, 1, 0) + HEADER.pack(Kind.DATA, 1, 1) + b"x",
    ],
    ids=["unknown kind", "too long", "credit of another size", "too much credit", "data after the end"],
)
def test_a_bad_frame_ends_everything(carrier: Carrier, frame: bytes) -> None:
    connection, _ = carrier.dial("tools")
    with connection:
        os.write(carrier.writing, frame)
        assert not _receive(connection)


def test_the_end_of_the_carrier_ends_everything(carrier: Carrier) -> None:
    connection, _ = carrier.dial("gateway")
    with connection:
        carrier.close()
        assert not _receive(connection)


def test_a_silent_host_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(relay, "SILENCE_SECONDS", 0.05)
    with Carrier() as carrier:
        assert set(kind for kind, _, _ in carrier.frames()) == set()  # to the end, which comes by itself


def test_the_last_words_are_passed_on(carrier: Carrier) -> None:
    connection, number = carrier.dial("gateway")
    with connection:
        connection.sendall(b"x" * 50_000)
        connection.shutdown(socket.SHUT_WR)
    carrier.relay.finish(TIMEOUT_SECONDS)
    *data, end = carrier.frames()
    assert sum(len(payload) for _, _, payload in data) == 50_000
    assert end == (Kind.END, number, b"")


def test_init_ends_when_the_carrier_does_and_keeps_it_to_itself() -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-m", "ipybox_sandbox.init", "--relay=loopback"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as init:
        assert init.stdin is not None and init.stdout is not None
        pings, (kind, _, service) = _first_after_pings(init.stdout)
        assert (kind, service) == (Kind.OPEN, b"\0")
        assert pings == 1
        init.stdin.close()
        init.stdout.read()
        assert init.wait(TIMEOUT_SECONDS) == 1  # it had no order yet


def _first_after_pings(incoming: object) -> tuple[int, Frame]:
    for count in itertools.count():
        kind, connection, length = HEADER.unpack(incoming.read(HEADER.size))  # type: ignore[attr-defined]
        if kind != Kind.PING:
            return count, (Kind(kind), connection, incoming.read(length))  # type: ignore[attr-defined]
    raise AssertionError


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return b""
