"""The gateway's end of the host's WebSockets to kernels."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress

from jupyter_client.session import DELIM
from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.iostream import StreamClosedError

from ipybox_sandbox.output_frames import Message
from ipybox_sandbox.published import Subscription
from ipybox_sandbox.shell_channel import is_reply


class KernelConnection(ZMQChannelsWebsocketConnection):
    """A WebSocket to a kernel, which is there already: its sockets are bound, and its output waits to be read."""

    @classmethod
    def close_those_of(cls, kernel_id: str) -> None:
        """Passes on what the kernel had sent before its end, then closes."""
        for connection in list(cls._open_sockets):
            if connection.kernel_id == kernel_id:
                for stream in connection.channels.values():
                    stream.flush()
                connection.websocket_handler.close(1000, "the kernel has ended")

    async def prepare(self) -> None:
        await self._register_session()
        self.session.key = self.kernel_manager.session.key

    def nudge(self) -> asyncio.Future[None]:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ready.set_result(None)
        return ready

    def create_stream(self) -> None:
        """Without the control and stdin channels: signals interrupt, and nobody is there to be asked."""
        self.channels = {"iopub": self.kernel_manager.connect_iopub(), "shell": self.kernel_manager.connect_shell()}

    def handle_outgoing_message(self, stream: Subscription, messages: Sequence[Message]) -> None:
        """Hands over what was read at once by one write: each wakes the host."""
        connection = self.websocket_handler.ws_connection
        if connection is None or connection.is_closing():
            return
        data = b"".join(map(_to_frame, messages))
        with suppress(StreamClosedError):
            stream.await_sent(len(data), connection.stream.write(data))


def _to_frame(message: Message) -> bytes:
    """The WebSocket frame of a binary message (RFC 6455, section 5.2)."""
    parts = message[message.index(DELIM) + 2 :]  # behind the signature, which is empty
    payload = serialize_msg_to_ws_v1(parts, "shell" if is_reply(message) else "iopub")
    size = len(payload)  # at least 126, of which the offsets are half
    head = struct.pack(">BBH", 0x82, 126, size) if size < 2**16 else struct.pack(">BBQ", 0x82, 127, size)
    return head + payload
