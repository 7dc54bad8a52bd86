"""What can go wrong with a tool call, as Python exceptions. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ToolError(Exception):
    """A tool call failed; the message is the upstream's own text.

    Attributes:
        server: Name of the MCP server, as registered.
        tool: Name of the tool, as the server lists it.
        result: The result as it arrived, where one arrived but did not fit the tool's outputSchema.
    """

    server: str
    tool: str
    result: Mapping[str, Any] | None

    def __init__(self, message: str, server: str = "", tool: str = "", result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.server = server
        self.tool = tool
        self.result = result


class ToolNotFoundError(ToolError):
    """No such server is registered, or it lists no such tool."""


class ToolRejectedError(ToolError):
    """A person or a policy refused the call."""


class ToolTimeoutError(ToolError):
    """The tool did not answer in time."""


class UpstreamUnavailableError(ToolError):
    """The MCP server, or the way to it, is down. The next call may work again."""


class InstallError(Exception):
    """A package could not be installed; nothing was changed."""


ToolRunnerError = ToolError
"""The name that modules written by earlier versions know."""

_BY_KIND: Mapping[str, type[ToolError]] = {
    "not-found": ToolNotFoundError,
    "rejected": ToolRejectedError,
    "timeout": ToolTimeoutError,
    "unavailable": UpstreamUnavailableError,
}


def tool_error_of(message: str, kind: str, server: str, tool: str) -> ToolError:
    """The exception for an error answer of the bridge whose `data.kind` is `kind`."""
    return _BY_KIND.get(kind, ToolError)(message, server, tool)
