"""How a kernel's output and its replies are written into the pipe to the gateway, and read from it.

A frame is a kind (1 byte), a number (4 bytes), the length of what follows (2 bytes), little-endian, then that. None is
longer than what a pipe takes at once or not at all, so that frames of several threads may be mixed, and neither a
signal nor the end of the kernel leaves one half-written. Text is frames of its own; a message is cut into frames of
the same number.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jupyter_client.jsonutil import json_default
from jupyter_client.session import json_packer

STREAMS = ("stdout", "stderr")
PLENTY_BYTES = 64 * 1024
"""Written since it was last said: worth a reading, and a part of what the pipe holds."""
_MESSAGE_PART, _MESSAGE_END, _MESSAGE_DROPPED = range(len(STREAMS), len(STREAMS) + 3)

_HEAD = struct.Struct("<BIH")
_MAX_PAYLOAD_BYTES = min(select.PIPE_BUF, 4096) - _HEAD.size
_MAX_ID_BYTES = 64


@dataclass
class Text:
    """What was written to one of the streams for one request, whose message id is `parent`."""

    stream: str
    parent: str
    text: str


Message = list[bytes]
"""As Jupyter's session serializes it for ZeroMQ."""


class FrameWriter:
    """For any number of threads, and for signal handlers."""

    def __init__(self, descriptor: int, on_plenty: Callable[[], None] = lambda: None) -> None:
        """`on_plenty` is called each time that so much was written that the reader, if it rests, had better read."""
        self._descriptor = descriptor
        self._on_plenty = on_plenty
        self._unannounced_bytes = 0
        self._numbers = itertools.count()
        self._held: deque[bytes] = deque()

    def write_text(self, stream: str, parent: str, text: str) -> None:
        """Returns when all of it is in the pipe, where nothing that happens to this process can take it away."""
        parent_id = parent.encode()[:_MAX_ID_BYTES]
        head = bytes([len(parent_id)]) + parent_id
        bytes_left = _MAX_PAYLOAD_BYTES - len(head)
        step = bytes_left if text.isascii() else bytes_left // len(r"\ud800")
        kind = STREAMS.index(stream)
        for start in range(0, len(text), step):
            # Half a surrogate pair has no bytes in UTF-8. It is shown as `repr` shows it.
            data = text[start : start + step].encode(errors="backslashreplace")
            self._write(kind, 0, head + data)

    def write_message(self, message: Sequence[Any]) -> None:
        number = next(self._numbers) % 2**32
        data = pack_message(message)
        try:
            for start in range(0, len(data), _MAX_PAYLOAD_BYTES):
                end = start + _MAX_PAYLOAD_BYTES
                self._write(_MESSAGE_PART if end < len(data) else _MESSAGE_END, number, data[start:end])
        except BaseException:  # an interrupt
            self._write(_MESSAGE_DROPPED, number, b"")
            raise

    def hold_message(self, message: Sequence[Any]) -> None:
        """Writes it together with what comes next, which must be soon: the reader is woken once for both."""
        data = pack_message(message)
        if len(data) > _MAX_PAYLOAD_BYTES:
            self.write_message(message)
        else:
            self._held.append(_frame(_MESSAGE_END, next(self._numbers) % 2**32, data))

    def _write(self, kind: int, number: int, payload: bytes) -> None:
        data = b""
        for frame in (*self._take_held(), _frame(kind, number, payload)):
            if len(data) + len(frame) > select.PIPE_BUF:
                self._write_whole(data)
                data = b""
            data += frame
        self._write_whole(data)

    def _write_whole(self, data: bytes) -> None:
        self._unannounced_bytes += os.write(self._descriptor, data)
        if self._unannounced_bytes >= PLENTY_BYTES:
            self._unannounced_bytes = 0
            self._on_plenty()

    def _take_held(self) -> Iterator[bytes]:
        while self._held:
            with suppress(IndexError):  # another thread has taken it
                yield self._held.popleft()


def _frame(kind: int, number: int, payload: bytes) -> bytes:
    return _HEAD.pack(kind, number, len(payload)) + payload


class FrameReader:
    """Takes in bytes as they come, gives out what they make up. Raises when they make no sense."""

    def __init__(self) -> None:
        self._unread = b""
        self._messages: dict[int, bytearray] = {}

    def feed(self, data: bytes) -> Iterator[Text | Message]:
        """What `data` completes, in order; texts in a row, of one stream and one request, are one."""
        source: tuple[int, bytes] | None = None
        texts: list[bytes] = []
        for kind, number, payload in self._frames(data):
            if kind < len(STREAMS):
                end = 1 + payload[0]
                if source != (kind, payload[1:end]) and source is not None:
                    yield _to_text(source, texts)
                    texts = []
                source = (kind, payload[1:end])
                texts.append(payload[end:])
                continue
            if source is not None:
                yield _to_text(source, texts)
                source, texts = None, []
            if kind > _MESSAGE_DROPPED:
                raise ValueError(f"a frame of unknown kind: {kind}")
            message = self._messages.setdefault(number, bytearray())
            message += payload
            if kind != _MESSAGE_PART:
                del self._messages[number]
            if kind == _MESSAGE_END:
                yield unpack_message(message)
        if source is not None:
            yield _to_text(source, texts)

    def _frames(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        unread = self._unread + data
        start = 0
        while start + _HEAD.size <= len(unread):
            kind, number, length = _HEAD.unpack_from(unread, start)
            end = start + _HEAD.size + length
            if end > len(unread):
                break
            yield kind, number, unread[start + _HEAD.size : end]
            start = end
        self._unread = unread[start:]


def _to_text(source: tuple[int, bytes], texts: Iterable[bytes]) -> Text:
    kind, parent = source
    return Text(STREAMS[kind], parent.decode(), b"".join(texts).decode())


def pack_message(message: Sequence[Any]) -> bytes:
    """The number of parts, the length of each (4 bytes, little-endian), then the parts."""
    parts = [bytes(part) for part in message]
    return struct.pack(f"<I{len(parts)}I", len(parts), *map(len, parts)) + b"".join(parts)


def unpack_message(data: bytearray) -> Message:
    """Undoes `pack_message`."""
    (count,) = struct.unpack_from("<I", data)
    ends = list(itertools.accumulate(struct.unpack_from(f"<{count}I", data, 4), initial=4 + 4 * count))
    return [bytes(data[start:end]) for start, end in itertools.pairwise(ends)]


def pack_json(content: Any) -> bytes:
    """JSON as Jupyter packs it, also with half a surrogate pair in it, which UTF-8 has no bytes for: it is escaped."""
    try:
        packed: bytes = json_packer(content)
    except UnicodeEncodeError:
        packed = json.dumps(content, default=json_default, allow_nan=False).encode()
    return packed
