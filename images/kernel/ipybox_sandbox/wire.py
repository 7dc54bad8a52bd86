"""Frames of the bridge: a JSON object a line. Standard library only."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Longest line in either direction, without its newline; the host sees to it that its own are no longer."""

MAX_LOOP_CALLS = 40
"""Calls of an event loop without an answer, beyond which further ones wait for their turn."""

MAX_CALLING_THREADS = 20
"""Threads with a call, likewise. All together are fewer than the 64 calls that the host admits of a session."""

Connect = Callable[[], socket.socket]
"""Makes a connection to the host, blocking."""


class CallFailedError(Exception):
    """What was asked for was not done; `kind` is one of the bridge's, see docs/architecture.md."""

    kind: str

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def no_connection(error: OSError) -> CallFailedError:
    """The host can't be reached."""
    return CallFailedError(f"no connection to the host: {error.strerror or error}", "unavailable")


def connection_ended() -> CallFailedError:
    """The host was reached, and is gone."""
    return CallFailedError("the connection to the host ended", "unavailable")


def request_frame(request_id: int, method: str, params: Mapping[str, Any]) -> bytes:
    """A request as it is sent; refused where the host would refuse it."""
    frame = _frame({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
    if len(frame) > MAX_FRAME_BYTES:
        size = f"{len(frame):,} bytes, limit {MAX_FRAME_BYTES:,}"
        raise CallFailedError(f"the arguments are too large for one call ({size})", "limit")
    return frame


def cancellation_frame(request_id: int) -> bytes:
    """What tells the host that nobody waits for the answer any more."""
    return _frame({"jsonrpc": "2.0", "method": "cancelled", "params": {"id": request_id}})


def parse_frame(line: bytes | bytearray) -> Mapping[str, Any]:
    """What the host sent, `{}` for what is no message."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise CallFailedError("the host's answer is not JSON", "unavailable") from None
    return message if isinstance(message, dict) else {}


def result_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The result of an answer; raises where it is an error."""
    result = answer.get("result")
    if isinstance(result, dict):
        return result
    error = answer.get("error")
    if not isinstance(error, dict):
        raise CallFailedError("the bridge answered without a result", "tool")
    data = error.get("data")
    kind = data.get("kind") if isinstance(data, dict) else None
    raise CallFailedError(str(error.get("message", "")), kind if isinstance(kind, str) else "tool")


def _frame(message: Mapping[str, Any]) -> bytes:
    # ASCII only: half a surrogate pair, which Python strings may hold, has no UTF-8 form.
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
