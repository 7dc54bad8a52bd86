"""What a kernel publishes, read by the gateway from the kernel's pipe and handed to whoever is connected to it."""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from jupyter_client.session import DELIM, Session
from tornado.log import app_log

from ipybox_sandbox.output_frames import PLENTY_BYTES, FrameReader, Message, Text, pack_json

MAX_UNSENT_BYTES = 4 * 1024 * 1024
"""Under way to one listener, beyond which nothing is read: the pipe fills, and the kernel waits."""
FIRST_REST_SECONDS = 0.005
"""After a request: most cells are over by then, and their reader is woken once, by the bell."""
_REST_SECONDS = 0.002
"""Between two readings in a burst of texts, unless the bell rings: to wake a reader costs more than to write."""
_BURST_READINGS = 8
"""Of texts in a row, none of them later than the time of two rests, are a burst; so is one that brings plenty."""
_PIPE_BYTES = 256 * 1024
"""So that a fast writer, who rings when there is plenty, need not wait until that is read."""
_READ_BYTES = 1024 * 1024


class PublishedOutput:
    """The reading end of one kernel's pipe. Nothing is read while nobody listens, or somebody does not keep up."""

    def __init__(self, path: str, bell: str) -> None:
        """Makes both pipes; `bell` is what the kernel rings when it has done what it was asked for."""
        self._descriptor, self._bell = _make_pipe(path), _make_pipe(bell)
        _enlarge(self._descriptor)
        asyncio.get_running_loop().add_reader(self._bell, self._on_bell)
        self._frames = FrameReader()
        self._session = Session(key=b"")
        self._listeners: set[Subscription] = set()
        self._is_open = True
        self._is_reading = False
        self._read_at = -math.inf
        self._readings = 0
        self._rest: asyncio.TimerHandle | None = None

    def subscribe(self) -> Subscription:
        return Subscription(self)

    def attach(self, listener: Subscription) -> None:
        self._listeners.add(listener)
        self.pace()

    def detach(self, listener: Subscription) -> None:
        self._listeners.discard(listener)
        self.pace()

    def pace(self) -> None:
        """Reads on, or does not."""
        keep_up = all(listener.unsent_bytes <= MAX_UNSENT_BYTES for listener in self._listeners)
        wanted = self._is_open and bool(self._listeners) and keep_up and self._rest is None
        if wanted and not self._is_reading:
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        elif self._is_reading and not wanted:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._is_reading = wanted

    def expect_reply(self) -> None:
        """A request has been sent. Each reading costs the kernel its turn on the processor, so it gets a head start."""
        if self._is_open and self._rest is None:
            self._rest_for(FIRST_REST_SECONDS)

    def _on_bell(self) -> None:
        if not os.read(self._bell, _READ_BYTES):  # the kernel has ended
            asyncio.get_running_loop().remove_reader(self._bell)
        self._end_rest()
        if self._is_reading:
            self._read()

    def _rest_for(self, seconds: float) -> None:
        self._rest = asyncio.get_running_loop().call_later(seconds, self._end_rest)
        self.pace()

    def _end_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
            self.pace()

    def finish(self) -> None:
        """The kernel has ended: hands over what it had written. Twice is the same as once."""
        while self._is_open and self._read():
            pass
        self._close()

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        try:
            self._hand_over(data)
        except Exception:
            # A cell wrote to the kernel's own descriptor: nobody can know where the next frame begins.
            app_log.exception("the output of a kernel makes no sense")
            data = b""
        if not data:
            self._close()
        return bool(data)

    def _hand_over(self, data: bytes) -> None:
        messages: list[Message] = []
        only_texts = True
        try:
            for item in self._frames.feed(data):
                messages.append(self._to_message(item) if isinstance(item, Text) else item)
                only_texts = only_texts and isinstance(item, Text)
        finally:
            for listener in list(self._listeners):
                listener.hear(messages)
        self._rest_in_burst(only_texts=only_texts, is_plenty=len(data) >= PLENTY_BYTES)

    def _rest_in_burst(self, *, only_texts: bool, is_plenty: bool) -> None:
        loop = asyncio.get_running_loop()
        is_soon = loop.time() - self._read_at < 2 * _REST_SECONDS
        self._read_at = loop.time()
        in_a_row = _BURST_READINGS if is_plenty else self._readings + 1 if is_soon else 0
        self._readings = in_a_row if only_texts else 0
        if self._readings >= _BURST_READINGS and self._rest is None:
            self._rest_for(_REST_SECONDS)

    def _to_message(self, text: Text) -> Message:
        """With the text itself behind the content: as JSON it would cost the gateway more than all the rest."""
        header = self._session.msg_header("stream")
        parts = map(pack_json, (header, {"msg_id": text.parent}, {}, {"name": text.stream}))
        return [DELIM, b"", *parts, text.text.encode()]

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._end_rest()
            self.pace()
            asyncio.get_running_loop().remove_reader(self._bell)
            os.close(self._bell)
            os.close(self._descriptor)


def _make_pipe(path: str) -> int:
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def _enlarge(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (AttributeError, OSError):
        pass  # not Linux, or the user has many pipes: it is slower with the usual size


class Subscription:
    """One connection's share, in the shape of a ZMQStream as far as Jupyter's server uses one."""

    channel = "iopub"

    def __init__(self, output: PublishedOutput) -> None:
        self._output = output
        self._callback: Callable[[Subscription, Sequence[Message]], Any] | None = None
        self._is_closed = False
        self.unsent_bytes = 0

    def on_recv_stream(self, callback: Callable[[Subscription, Sequence[Message]], Any]) -> None:
        self._callback = callback
        self._output.attach(self)

    def on_recv(self, callback: None) -> None:
        self._output.detach(self)

    def hear(self, messages: Sequence[Message]) -> None:
        if self._callback is not None and messages:
            self._callback(self, messages)

    def await_sent(self, size: int, sent: asyncio.Future[None]) -> None:
        """So many bytes are under way to the listener, until `sent` is done."""

        def on_sent(_: asyncio.Future[None]) -> None:
            self.unsent_bytes -= size
            self._output.pace()

        self.unsent_bytes += size
        self._output.pace()
        sent.add_done_callback(on_sent)

    def flush(self) -> None:
        """The kernel has ended."""
        self._output.finish()

    def close(self) -> None:
        self._is_closed = True
        self._output.detach(self)

    def closed(self) -> bool:
        return self._is_closed
