"""Calls of the bridge that are awaited: those of an event loop share a connection. Standard library only."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

from ipybox_sandbox import wire


class AsyncioCalls:
    """Requests of any event loop."""

    def __init__(self, connect: wire.Connect) -> None:
        self._connect = connect
        self._loops: dict[asyncio.AbstractEventLoop, _LoopCalls] = {}

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The result; raises `CallFailedError` where there is none. Cancelling the task cancels the request."""
        loop = asyncio.get_running_loop()
        calls = self._loops.get(loop)
        if calls is None:
            for closed in [other for other in list(self._loops) if other.is_closed()]:
                self._loops.pop(closed, None)
            calls = self._loops[loop] = _LoopCalls(self._connect)
        return wire.result_of(await calls.request(method, params))


class _LoopCalls(asyncio.Protocol):
    """One connection, made anew when it has ended; answers are told apart by their ids."""

    def __init__(self, connect: wire.Connect) -> None:
        self._connect = connect
        self._opening = asyncio.Lock()
        self._turns = asyncio.Semaphore(wire.MAX_LOOP_CALLS)
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._transport: asyncio.Transport | None = None
        self._line = bytearray()

    async def request(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        request_id = next(self._ids)
        frame = wire.request_frame(request_id, method, params)
        await self._turns.acquire()
        try:
            transport = await self._open()
        except BaseException:
            self._turns.release()
            raise
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        transport.write(frame)
        try:
            return await answer
        except asyncio.CancelledError:
            if request_id in self._waiting:
                transport.write(wire.cancellation_frame(request_id))
            raise

    async def _open(self) -> asyncio.Transport:
        async with self._opening:
            if self._transport is None:
                try:
                    connected = self._connect()
                except OSError as error:
                    raise wire.no_connection(error) from None
                self._transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, sock=connected)
            return self._transport

    # --- What asyncio calls ---

    def data_received(self, data: bytes) -> None:
        *ends, rest = data.split(b"\n")
        for end in ends:
            line, self._line = self._line + end, bytearray()
            self._take(line)
        self._line += rest

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._line.clear()
        for request_id in list(self._waiting):
            answer = self._settle(request_id)
            if answer is not None:
                answer.set_exception(wire.connection_ended())

    def _take(self, line: bytearray) -> None:
        try:
            message = wire.parse_frame(line)
        except wire.CallFailedError:
            if self._transport is not None:
                self._transport.abort()
            return
        answer = self._settle(message.get("id"))
        if answer is not None:
            answer.set_result(message)

    def _settle(self, request_id: object) -> asyncio.Future[Mapping[str, Any]] | None:
        """The host counts the call until its answer, also where nobody waits for that any more."""
        answer = self._waiting.pop(request_id, None) if type(request_id) is int else None
        if answer is not None:
            self._turns.release()
        return None if answer is None or answer.done() else answer
