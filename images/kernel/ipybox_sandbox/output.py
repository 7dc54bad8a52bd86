"""What a kernel publishes, its stdout and stderr above all: everything arrives, in the order in which it was written.

ipykernel's own streams keep a buffer each, so that the order between them is lost, and read descriptors 1 and 2 in
threads that may come too late for the cell; a ZeroMQ socket keeps what it sends in the memory of the process. Here
everything goes at once into a pipe to the gateway: it outlives the kernel, and who writes too much waits.
"""

from __future__ import annotations

import codecs
import os
import select
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ipykernel.iostream import IOPubThread, OutStream

from ipybox_sandbox.output_frames import FrameWriter

MAX_DRAIN_BYTES = 1024 * 1024
"""Taken from a descriptor at a time: a background process that never stops writing must not keep a cell from ending."""

_DESCRIPTORS = {"stdout": 1, "stderr": 2}


class OutputPipe(IOPubThread):
    """Stands where ipykernel has its publishing socket, and the thread that owns it: there is nothing for one to do."""

    io_loop = None

    def __init__(self, path: str, bell: str) -> None:
        self._bell = os.open(bell, os.O_WRONLY | os.O_NONBLOCK)
        self._frames = FrameWriter(os.open(path, os.O_WRONLY), on_plenty=self.ring)
        self._captured = _CapturedDescriptors()

    def send_multipart(self, msg: Sequence[Any], *_: Any, **__: Any) -> None:
        self._captured.drain()
        self._frames.write_message(msg)

    def hold_multipart(self, msg: Sequence[Any], *_: Any, **__: Any) -> None:
        """For what is followed at once: it goes out with that, and wakes the gateway no time more."""
        self._captured.drain()
        self._frames.hold_message(msg)

    def ring(self) -> None:
        """What was asked for is done, or much of it: nobody need wait for more."""
        with suppress(BlockingIOError):  # it is ringing
            os.write(self._bell, b"\0")

    def write(self, stream: CapturedStream, text: str) -> None:
        self._captured.drain()  # what a subprocess wrote before comes first
        self.append(stream, stream.parent_header, text)

    def append(self, stream: CapturedStream, parent: dict[str, Any], text: str) -> None:
        self._frames.write_text(stream.name, parent.get("msg_id", ""), text)

    def capture(self, stream: CapturedStream, descriptor: int) -> None:
        """What anybody writes to `descriptor` counts as written to `stream`."""
        self._captured.capture(stream, descriptor)

    def stop(self) -> None:
        """Nothing waits to be sent."""

    close = stop


class CapturedStream(OutStream):
    """`sys.stdout` and `sys.stderr`. In a process that a cell forks it writes lines to the captured descriptor."""

    pub_thread: OutputPipe | None

    def __init__(self, session: Any, pub_thread: OutputPipe, name: str, **_: Any) -> None:
        super().__init__(session, pub_thread, name, watchfd=False)
        self._child_line = ""
        pub_thread.capture(self, _DESCRIPTORS[name])

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
            self.pub_thread.write(self, string)
        return len(string)

    def flush(self) -> None:
        """What was written is on its way already; but for children, which write whole lines."""
        if not self._is_master_process():
            self._write_in_child("", whole_lines=False)

    def close(self) -> None:
        """Nothing: the next cell prints, too."""

    def _write_in_child(self, text: str, whole_lines: bool = True) -> None:
        self._child_line += text
        end = self._child_line.rfind("\n") + 1 if whole_lines else len(self._child_line)
        data, self._child_line = self._child_line[:end].encode(errors="backslashreplace"), self._child_line[end:]
        while data:
            data = data[os.write(self.fileno(), data) :]


class _CapturedDescriptors:
    """Pipes in place of descriptors 1 and 2, for output of subprocesses and C libraries."""

    def __init__(self) -> None:
        # Reentrant, since a signal handler or a finalizer may print in the middle of a print.
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

    def drain(self) -> None:
        """Passes on what has been written so far. What another thread has read, and not passed on, is waited for."""
        with self._lock:
            ready, _, _ = select.select(self._sources, (), (), 0)
            for source in ready:
                self._read(source)

    def _read(self, source: int) -> None:
        stream, decoder = self._sources[source]
        left = MAX_DRAIN_BYTES
        while left > 0 and stream.pub_thread is not None:
            try:
                data = os.read(source, 65536)
            except BlockingIOError:
                return
            left -= len(data)
            # The descriptor knows no cell: it is the one that runs, or ran last.
            stream.pub_thread.append(stream, stream._parent_header_global, decoder.decode(data))

    def _watch(self) -> None:
        while True:
            select.select(self._sources, (), ())
            self.drain()
