"""Calls of the bridge that block their thread. Standard library only.

A call has a connection to itself, which its own thread writes to and reads from: nothing has to be handed to another
thread, which would take longer than all the rest. An interrupt may hit at whatever point; a call that does not end in
the ordinary way gives up its connection, so that neither half a frame nor a late answer can get in anybody's way, and
the host cancels what was asked on it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from ipybox_sandbox import wire

_BUFFER_BYTES = 64 * 1024
_LOOKING_SECONDS = 0.001
"""Most answers take less, and a thread that sleeps is woken late: with sleep a call takes half as long again."""


class BlockingCalls:
    """Requests of any thread. Connections are kept for later calls."""

    def __init__(self, connect: wire.Connect) -> None:
        self._connect = connect
        self._ids = itertools.count(1)
        self._idle: deque[_Connection] = deque()
        self._turns = threading.Semaphore(wire.MAX_CALLING_THREADS)

    def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The result; raises `CallFailedError` where there is none."""
        request_id = next(self._ids)
        frame = wire.request_frame(request_id, method, params)
        if threading.current_thread() is threading.main_thread():
            # Interrupts are the main thread's, and could make it keep a turn for ever. It is but one, and may look out.
            return self._exchange(request_id, frame, _LOOKING_SECONDS)
        with self._turns:
            return self._exchange(request_id, frame)

    def _exchange(self, request_id: int, frame: bytes, looking_seconds: float = 0) -> dict[str, Any]:
        connection = self._take()
        try:
            answer = connection.exchange(request_id, frame, looking_seconds)
        except BaseException:
            connection.give_up()
            raise
        self._idle.append(connection)
        return wire.result_of(answer)

    def _take(self) -> _Connection:
        with contextlib.suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if connection.is_open():
                    return connection
                connection.give_up()
        try:
            return _Connection(self._connect())
        except OSError as error:
            raise wire.no_connection(error) from None


class _Connection:
    """For one call at a time."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._answers = connected.makefile("rb", _BUFFER_BYTES)

    def is_open(self) -> bool:
        """Whether the host has not ended it. Nothing arrives while nothing is asked."""
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def exchange(self, request_id: int, frame: bytes, looking_seconds: float) -> Mapping[str, Any]:
        try:
            with contextlib.suppress(BrokenPipeError):  # the host says why it does not listen
                self._socket.sendall(frame)
            self._look_for_answer(time.perf_counter() + looking_seconds)
            while True:
                line = self._answers.readline()
                if not line.endswith(b"\n"):
                    raise wire.connection_ended()
                answer = wire.parse_frame(line)
                answered = answer.get("id")
                if answered == request_id or (answered is None and "error" in answer):  # or it was not even read
                    return answer
        except ConnectionError:  # no other OSError: the cell's own timeouts by signal are TimeoutErrors
            raise wire.connection_ended() from None

    def _look_for_answer(self, until: float) -> None:
        """Without sleeping, so that nobody has to wake this thread; whoever else has something to do comes first."""
        while time.perf_counter() < until:
            try:
                self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                return
            except BlockingIOError:
                os.sched_yield()

    def give_up(self) -> None:
        self._answers.close()
        with contextlib.suppress(OSError):
            # Closing alone would not end it for the host while a forked child holds the descriptor too.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
