"""How requests reach a kernel: through a pipe, like what it publishes (`output.py`) and for the same reasons.

On the way through a ZeroMQ socket a request and its reply change threads eight times, which takes as long as the cell
itself does. Replies go into the pipe of the output, where they keep their place behind it. A request is its length
(4 bytes, little-endian), then a message as in the other pipe.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import zmq
from tornado.ioloop import IOLoop
from tornado.iostream import PipeIOStream, StreamClosedError

from ipybox_sandbox.forked_child import end_child, is_child
from ipybox_sandbox.output_frames import Message, pack_message, unpack_message

if TYPE_CHECKING:  # the gateway does without ipykernel
    from ipybox_sandbox.output import OutputPipe

CHANNEL = "shell"
_IDENTITY = CHANNEL.encode()
"""In front of each request, as a ZeroMQ router has it, and therefore in front of its reply."""
_READ_BYTES = 1024 * 1024
_LENGTH = struct.Struct("<I")


def is_reply(message: Message) -> bool:
    """Whether what came through the output's pipe belongs to this channel."""
    return message[0] == _IDENTITY


def pack_request(parts: Sequence[bytes]) -> bytes:
    """A message as Jupyter's session serializes it for ZeroMQ, without identities."""
    data = pack_message((_IDENTITY, *parts))
    return _LENGTH.pack(len(data)) + data


class Requests:
    """The gateway's end, in the shape of a ZMQStream as far as Jupyter's server uses one."""

    def __init__(self, path: str, on_request: Callable[[], None]) -> None:
        """Raises when the kernel has not opened its end, or has ended."""
        self._on_request = on_request
        self._stream = PipeIOStream(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    def send_multipart(self, parts: Sequence[bytes], *_: Any, **__: Any) -> None:
        """Keeps what the kernel does not take yet."""
        self._on_request()
        with suppress(StreamClosedError):  # its end is told otherwise
            self._stream.write(pack_request(parts))

    def finish(self) -> None:
        """The kernel has ended. Twice is the same as once."""
        self._stream.close()

    def on_recv_stream(self, callback: Any) -> None:
        """Nothing comes this way."""

    on_recv = on_recv_stream

    def flush(self) -> None:
        """Nothing waits that would still be of use."""

    close = flush  # of one connection; others have the same pipe

    def closed(self) -> bool:
        return self._stream.closed()


class ShellChannel:
    """The kernel's end, in the shape of a ZMQStream as far as ipykernel uses one."""

    def __init__(self, path: str, output: OutputPipe) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._unread = bytearray()
        self._handling: set[asyncio.Future[Any]] = set()  # the loop itself holds tasks weakly
        self.send_multipart = output.hold_multipart  # the idle state follows

    def on_recv(self, callback: Callable[[list[zmq.Frame]], Any], copy: bool = False) -> None:
        IOLoop.current().add_handler(self._descriptor, lambda *_: self._read(callback), IOLoop.READ)

    def flush(self, *_: Any) -> None:
        """What was sent is on its way already."""

    def _read(self, callback: Callable[[list[zmq.Frame]], Any]) -> None:
        if is_child():
            end_child()
        data = os.read(self._descriptor, _READ_BYTES)
        if not data:  # the gateway has ended, and this process will
            IOLoop.current().remove_handler(self._descriptor)
        self._unread += data
        for request in self._take_requests():
            task = asyncio.ensure_future(callback([zmq.Frame(part) for part in request]))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

    def _take_requests(self) -> Iterator[Message]:
        while len(self._unread) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._unread)[0]
            if end > len(self._unread):
                return
            request = unpack_message(self._unread[_LENGTH.size : end])
            del self._unread[:end]
            yield request
