"""The bridge: how kernel code asks the host for tool calls. Standard library only."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from ipybox_sandbox import addresses
from ipybox_sandbox.asyncio_calls import AsyncioCalls
from ipybox_sandbox.blocking_calls import BlockingCalls
from ipybox_sandbox.toolerrors import InstallError, tool_error_of
from ipybox_sandbox.wire import CallFailedError

ADDRESS = os.environ.get("IPYBOX_TOOLS") or (
    "/run/ipybox/tools.sock" if os.path.exists("/run/ipybox/tools.sock") else "@ipybox/tools"
)
"""Where the host listens, see `addresses`, as programs find it that cells start: in a container by its link, elsewhere
by a variable of their kernel's. Kernels and tests set it; it is read at each connection."""


def call(server: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Calls a tool and waits for its CallToolResult. An interrupt cancels the call at the upstream too.

    Raises:
        ToolError: or one of its subclasses, with the upstream's own text.
    """
    try:
        return _blocking.request("tools/call", {"server": server, "tool": tool, "arguments": arguments})
    except CallFailedError as error:
        raise tool_error_of(str(error), error.kind, server, tool) from None


async def acall(server: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Like `call`, for asyncio: any number at once share one connection. Cancelling the task cancels the call."""
    try:
        return await _asyncio.request("tools/call", {"server": server, "tool": tool, "arguments": arguments})
    except CallFailedError as error:
        raise tool_error_of(str(error), error.kind, server, tool) from None


def install(requirement: str) -> str:
    """Installs a package for this workspace and returns the installer's words.

    Raises:
        InstallError: with the installer's words; nothing was changed.
    """
    try:
        output = _blocking.request("packages/install", {"requirement": requirement}).get("output")
    except CallFailedError as error:
        raise InstallError(str(error)) from None
    return output if isinstance(output, str) else ""


def _connect() -> socket.socket:
    return addresses.connect(ADDRESS)


def _begin_anew() -> None:
    """In a forked child: the connections that it inherits are its parent's."""
    global _blocking, _asyncio
    _blocking, _asyncio = BlockingCalls(_connect), AsyncioCalls(_connect)


_blocking = BlockingCalls(_connect)
_asyncio = AsyncioCalls(_connect)
os.register_at_fork(after_in_child=_begin_anew)
