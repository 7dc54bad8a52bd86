"""stdout and stderr of a kernel: everything arrives, in the order in which it was written, in few messages.

ipykernel's own streams keep a buffer each, so that the order between them is lost, send a message for every flush,
and read descriptors 1 and 2 in threads that may come too late for the cell. Here one queue serves both streams and both
descriptors; it is published when a while has passed, and before any other message of the kernel.
"""

from __future__ import annotations

import codecs
import functools
import math
import os
import select
import threading
import time
from typing import Any

import zmq
from ipykernel.iostream import IOPubThread, OutStream

BURST_SECONDS = 0.01
"""Flushes closer together than this share a message."""
LATENCY_SECONDS = 0.05
"""Longest time that text waits without a flush."""
MAX_MESSAGE_CHARS = 1024 * 1024
MAX_DRAIN_BYTES = 1024 * 1024
"""Taken from a descriptor at a time: a background process that never stops writing must not keep a cell from ending."""
_HAND_OVER_SECONDS = 1.0

_DESCRIPTORS = {"stdout": 1, "stderr": 2}


class OutputThread(IOPubThread):
    """The kernel's publishing thread: whatever is sent, text written before it goes first."""

    def __init__(self, socket: Any, session: Any) -> None:
        super().__init__(socket, pipe=True, session=session)
        self.queue = OutputQueue(self, session)

    def send_multipart(self, msg: list[Any], *args: Any, **kwargs: Any) -> None:
        if self._is_master_process() and not bytes(msg[0]).startswith(b"stream."):
            self.queue.publish(drain=True)
        super().send_multipart(msg, *args, **kwargs)

    def _really_send(self, msg: list[Any], *args: Any, **kwargs: Any) -> None:
        super()._really_send(msg, *args, **kwargs)
        # ZeroMQ documents (under ZMQ_FD) that a send may leave the socket readable without its descriptor saying so,
        # which is what the stream of subscriptions waits for.
        if self._is_master_process() and not self.closed and self.socket.get(zmq.EVENTS) & zmq.POLLIN:
            self._xpub_stream.flush(zmq.POLLIN)


class CapturedStream(OutStream):
    """`sys.stdout` and `sys.stderr`. In a process that a cell forks it writes lines to the captured descriptor."""

    def __init__(self, session: Any, pub_thread: OutputThread, name: str, **_: Any) -> None:
        super().__init__(session, pub_thread, name, watchfd=False)
        self._child_line = ""
        pub_thread.queue.capture(self, _DESCRIPTORS[name])

    def fileno(self) -> int:
        """What subprocesses write to; captured as well."""
        return _DESCRIPTORS[self.name]

    def write(self, string: str) -> int:
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string).__name__}")
        if not self._is_master_process():
            self._write_in_child(string)
        elif self.pub_thread is None:
            raise ValueError("I/O operation on closed file")
        else:
            self.pub_thread.queue.write(self, string)
        return len(string)

    def flush(self) -> None:
        """Text is on its way within moments; messages that follow never overtake it."""
        if not self._is_master_process():
            self._write_in_child("", whole_lines=False)
        elif self.pub_thread is not None:
            self.pub_thread.queue.flush()

    def _write_in_child(self, text: str, whole_lines: bool = True) -> None:
        self._child_line += text
        end = self._child_line.rfind("\n") + 1 if whole_lines else len(self._child_line)
        data, self._child_line = self._child_line[:end].encode(errors="replace"), self._child_line[end:]
        while data:
            data = data[os.write(self.fileno(), data) :]


class OutputQueue:
    """Text that waits to be published: runs of the same stream and the same cell."""

    def __init__(self, thread: OutputThread, session: Any) -> None:
        self._thread = thread
        self._session = session
        # Reentrant, since a signal handler or a finalizer may print in the middle of a print.
        self._lock = threading.RLock()
        self._runs: list[_Run] = []
        self._chars = 0
        self._published_at = -math.inf
        self._due_at = math.inf
        self._descriptors = _CapturedDescriptors(self)

    def capture(self, stream: CapturedStream, descriptor: int) -> None:
        """What anybody writes to `descriptor` counts as written to `stream`."""
        self._descriptors.capture(stream, descriptor)

    def write(self, stream: CapturedStream, text: str) -> None:
        self._descriptors.drain()  # what a subprocess wrote before comes first
        self.append(stream, stream.parent_header, text)
        now = time.monotonic()
        if self._chars >= MAX_MESSAGE_CHARS:
            self.publish()
        elif text.endswith("\n") and now - self._published_at > LATENCY_SECONDS:
            self._publish_at_once()
        else:
            self._publish_by(now + LATENCY_SECONDS)

    def flush(self) -> None:
        if not self._runs:
            return
        now = time.monotonic()
        if now - self._published_at > BURST_SECONDS:
            self._publish_at_once()
        else:
            self._publish_by(self._published_at + BURST_SECONDS)

    def append(self, stream: CapturedStream, parent: dict[str, Any], text: str) -> None:
        with self._lock:
            last = self._runs[-1] if self._runs else None
            if last is None or last.name != stream.name or last.parent is not parent:
                last = _Run(stream.name, parent)
                self._runs.append(last)
            last.texts.append(text)
            self._chars += len(text)

    def arrived(self) -> None:
        """Text from a descriptor has been appended."""
        self._publish_by(time.monotonic() + BURST_SECONDS)

    def publish(self, drain: bool = False) -> None:
        """Hands everything that waits to the publishing thread."""
        if drain:
            self._descriptors.drain()
        if not self._runs:
            return
        with self._lock:
            runs, self._runs, self._chars, self._due_at = self._runs, [], 0, math.inf
            self._published_at = time.monotonic()
            for run in runs:
                text = "".join(run.texts)
                for start in range(0, len(text), MAX_MESSAGE_CHARS):
                    content = {"name": run.name, "text": text[start : start + MAX_MESSAGE_CHARS]}
                    message = self._session.msg("stream", content, parent=run.parent)
                    self._session.send(self._thread, message, ident=b"stream." + run.name.encode())

    def _publish_at_once(self) -> None:
        """The first words of a burst leave before the program goes on, since the next line may kill the kernel."""
        self.publish()
        if threading.current_thread() is not self._thread.thread:
            sent = threading.Event()
            self._thread.schedule(sent.set)
            sent.wait(_HAND_OVER_SECONDS)

    def _publish_by(self, due_at: float) -> None:
        if due_at < self._due_at:
            self._due_at = due_at
            delay = max(0.0, due_at - time.monotonic())
            self._thread.schedule(functools.partial(self._thread.io_loop.call_later, delay, self.publish))


class _Run:
    __slots__ = ("name", "parent", "texts")

    def __init__(self, name: str, parent: dict[str, Any]) -> None:
        self.name = name
        self.parent = parent
        self.texts: list[str] = []


class _CapturedDescriptors:
    """Pipes in place of descriptors 1 and 2, for output of subprocesses and C libraries."""

    def __init__(self, queue: OutputQueue) -> None:
        self._queue = queue
        self._lock = threading.RLock()
        self._sources: dict[int, tuple[CapturedStream, codecs.IncrementalDecoder]] = {}

    def capture(self, stream: CapturedStream, descriptor: int) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.dup2(writing, descriptor)
        os.close(writing)
        self._sources[reading] = (stream, codecs.getincrementaldecoder("utf-8")("replace"))
        if len(self._sources) == len(_DESCRIPTORS):
            threading.Thread(target=self._watch, name="output capture", daemon=True).start()

    def drain(self) -> bool:
        """Appends what has been written so far; says whether there was any."""
        if not self._sources:
            return False
        ready, _, _ = select.select(self._sources, (), (), 0)
        if not ready:
            return False
        with self._lock:
            for source in ready:
                self._read(source)
        return True

    def _read(self, source: int) -> None:
        stream, decoder = self._sources[source]
        left = MAX_DRAIN_BYTES
        while left > 0:
            try:
                data = os.read(source, 65536)
            except BlockingIOError:
                return
            left -= len(data)
            # The descriptor knows no cell: it is the one that runs, or ran last.
            self._queue.append(stream, stream._parent_header_global, decoder.decode(data))

    def _watch(self) -> None:
        poll = select.poll()
        for source in self._sources:
            poll.register(source, select.POLLIN)
        while True:
            poll.poll()
            if self.drain():
                self._queue.arrived()
