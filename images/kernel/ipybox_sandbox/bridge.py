"""Client of the bridge: the socket on which kernel code asks the host for tool calls. Standard library only.

One daemon thread owns the connection: it alone connects, writes and reads. Callers only append whole frames to a
queue and wait for their answer, so neither a KeyboardInterrupt nor the death of a calling thread, at whatever point,
can leave half a frame on the wire or swallow an answer meant for somebody else. For the same reason callers take no
lock: a lock that an interrupted caller never releases would stop everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

from ipybox_sandbox.addresses import new_socket
from ipybox_sandbox.toolerrors import (
    InstallError,
    ToolError,
    ToolNotFoundError,
    ToolRejectedError,
    ToolRunnerError,
    ToolTimeoutError,
    UpstreamUnavailableError,
    tool_error_of,
)
from ipybox_sandbox.wire import MAX_FRAME_BYTES, Outbox, Reply, Wire, drain, local_error

__all__ = [
    "ADDRESS",
    "MAX_FRAME_BYTES",
    "InstallError",
    "ToolError",
    "ToolNotFoundError",
    "ToolRejectedError",
    "ToolRunnerError",
    "ToolTimeoutError",
    "UpstreamUnavailableError",
    "acall",
    "call",
    "install",
]

ADDRESS = "/run/ipybox/tools.sock"
"""Where the host listens, see `addresses`. Read at each connection: kernels and tests set it."""

_Deliver = Callable[[Reply], object]


def call(server: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Calls a tool and waits for its CallToolResult. An interrupt cancels the call at the upstream too.

    Raises:
        ToolError: or one of its subclasses, with the upstream's own text.
    """
    return _tool_result(_CLIENT.request("tools/call", _tool_params(server, tool, arguments)), server, tool)


async def acall(server: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Like `call`, for asyncio: any number at once share one connection. Cancelling the task cancels the call."""
    return _tool_result(await _CLIENT.arequest("tools/call", _tool_params(server, tool, arguments)), server, tool)


def install(requirement: str) -> str:
    """Installs a package for this workspace and returns the installer's words.

    Raises:
        InstallError: with the installer's words; nothing was changed.
    """
    reply = _CLIENT.request("packages/install", {"requirement": requirement})
    if (error := reply.get("error")) is not None:
        raise InstallError(_error_parts(error)[0])
    result = reply.get("result")
    output = result.get("output") if isinstance(result, dict) else None
    return output if isinstance(output, str) else ""


def _tool_params(server: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"server": server, "tool": tool, "arguments": arguments}


def _tool_result(reply: Reply, server: str, tool: str) -> dict[str, Any]:
    if (error := reply.get("error")) is not None:
        message, kind = _error_parts(error)
        raise tool_error_of(message, kind, server, tool)
    result = reply.get("result")
    if not isinstance(result, dict):
        raise ToolError("the bridge answered without a result", server, tool)
    return result


def _error_parts(error: object) -> tuple[str, str]:
    if not isinstance(error, dict):
        return str(error), "tool"
    data = error.get("data")
    kind = data.get("kind") if isinstance(data, dict) else None
    return str(error.get("message", "")), kind if isinstance(kind, str) else "tool"


class _Client:
    """Requests of any thread and any event loop, matched with answers by id."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Deliver] = {}
        self._outbox = Outbox()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._owner = threading.Lock()
        self._running = False
        self._connection: socket.socket | None = None

    def request(self, method: str, params: Mapping[str, Any]) -> Reply:
        replies: SimpleQueue[Reply] = SimpleQueue()
        request_id = next(self._ids)
        try:
            self._submit(request_id, method, params, replies.put)
            return replies.get()
        except BaseException:
            self._cancel(request_id)
            raise

    async def arequest(self, method: str, params: Mapping[str, Any]) -> Reply:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()

        def settle(reply: Reply) -> None:
            if not future.done():
                future.set_result(reply)

        def deliver(reply: Reply) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(settle, reply)

        request_id = next(self._ids)
        try:
            self._submit(request_id, method, params, deliver)
            return await future
        except BaseException:
            self._cancel(request_id)
            raise

    def _submit(self, request_id: int, method: str, params: Mapping[str, Any], deliver: _Deliver) -> None:
        frame = _frame({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        if len(frame) > MAX_FRAME_BYTES:
            size = f"{len(frame):,} bytes, limit {MAX_FRAME_BYTES:,}"
            deliver(local_error(f"the arguments are too large for one call ({size})", "limit"))
            return
        self._waiting[request_id] = deliver
        self._outbox.requests.append((request_id, frame))
        self._wake()

    def _cancel(self, request_id: int) -> None:
        if self._waiting.pop(request_id, None) is not None:
            self._outbox.cancellations.append(
                _frame({"jsonrpc": "2.0", "method": "cancelled", "params": {"id": request_id}})
            )
            self._wake()

    def _wake(self) -> None:
        if not self._running:
            # Several threads may be started at once; all but the one that gets to own the connection end at once.
            threading.Thread(target=self._run, name="ipybox-bridge", daemon=True).start()
        with contextlib.suppress(BlockingIOError):  # a full buffer wakes as well
            self._wake_out.send(b"\0")

    def forget(self) -> None:
        """In a forked child: the connection, its thread and whoever waited belong to the parent."""
        for inherited in (self._connection, self._wake_in, self._wake_out):
            if inherited is not None:
                inherited.close()
        self.__init__()  # type: ignore[misc]

    # --- What follows runs in the thread that owns the connection ---

    def _run(self) -> None:
        if not self._owner.acquire(blocking=False):
            return
        self._running = True
        while True:
            try:
                self._serve()
                reason = "the connection to the host ended"
            except OSError as error:
                reason = f"no connection to the host: {error.strerror or error}"
            self._fail_sent(reason)

    def _serve(self) -> None:
        """From the first request to the end of one connection."""
        self._await_request()
        connection, target = new_socket(ADDRESS)
        with connection:
            self._connection = connection
            try:
                connection.connect(target)
                connection.setblocking(False)
                Wire(connection, self._wake_in, self._outbox, self._waiting.__contains__, self._deliver).serve()
            finally:
                self._connection = None

    def _await_request(self) -> None:
        """Waits until there is something to ask; a cancellation alone has nobody to go to any more."""
        while not self._outbox.requests:
            self._outbox.cancellations.clear()
            select.select([self._wake_in], [], [])
            drain(self._wake_in)

    def _deliver(self, request_id: int, reply: Reply) -> None:
        deliver = self._waiting.pop(request_id, None)
        if deliver is not None:  # else it was cancelled
            deliver(reply)

    def _fail_sent(self, reason: str) -> None:
        """Whatever was asked before now can't be answered; what is asked from now on gets a new connection."""
        self._outbox.clear()
        for request_id in list(self._waiting):
            self._deliver(request_id, local_error(reason, "unavailable"))


def _frame(message: Mapping[str, Any]) -> bytes:
    # ASCII only: half a surrogate pair, which Python strings may hold, has no UTF-8 form.
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


_CLIENT = _Client()
os.register_at_fork(after_in_child=lambda: _CLIENT.forget())
