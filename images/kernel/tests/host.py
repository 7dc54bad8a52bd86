"""The host's side of a sandbox, for tests: listens on `gateway.sock`, speaks HTTP and WebSocket over what dials in."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import queue
import secrets
import select
import socket
import struct
import threading
import uuid
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 30


class Host:
    """Listens in `run`; `order` is what init is told to do."""

    def __init__(self, run: Path, order: dict[str, Any]) -> None:
        self.token = secrets.token_hex(16)
        self._order = {"token": self.token, **order}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(run / "gateway.sock"))
        self._listener.listen(16)
        self.control: queue.Queue[socket.socket] = queue.Queue()
        self.streams: queue.Queue[socket.socket] = queue.Queue()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def end_session(self) -> None:
        """Closes the control connection: the lifeline."""
        while not self.control.empty():
            self.control.get().close()

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request on a stream of its own: (status, parsed answer)."""
        with self.streams.get(timeout=TIMEOUT_SECONDS) as stream:
            return request_on(stream, method, path, body)

    def start_kernel(self, **body: Any) -> str:
        status, model = self.request("POST", "/api/kernels", {"name": "ipybox", **body})
        assert status == 201, model
        kernel_id: str = model["id"]
        return kernel_id

    def connect(self, kernel_id: str) -> KernelSocket:
        return KernelSocket(self.streams.get(timeout=TIMEOUT_SECONDS), kernel_id)

    def listen(self) -> Any:
        """The lines of /ipybox/events, as a file."""
        stream = self.streams.get(timeout=TIMEOUT_SECONDS)
        connection = http.client.HTTPConnection("gateway")
        connection.sock = stream
        connection.request("GET", "/ipybox/events")
        response = connection.getresponse()
        assert json.loads(response.readline()) == {"event": "hello"}
        return response

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            stream.settimeout(TIMEOUT_SECONDS)
            try:
                preamble = json.loads(_read_line(stream))
            except EOFError:  # the other side ended while it dialled
                stream.close()
                continue
            if preamble["role"] == "init":
                stream.sendall(json.dumps(self._order).encode() + b"\n")
                self.control.put(stream)
            elif preamble["token"] == self.token:
                self.streams.put(stream)


class KernelSocket:
    """A WebSocket to a kernel, in the v1 subprotocol."""

    def __init__(self, stream: socket.socket, kernel_id: str) -> None:
        self._stream = stream
        self._file = stream.makefile("rb", buffering=1024 * 1024)
        stream.sendall(
            f"GET /api/kernels/{kernel_id}/channels?session_id={uuid.uuid4().hex} HTTP/1.1\r\nHost: gateway\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Protocol: v1.kernel.websocket.jupyter.org\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            assert line, head
            head += line
        assert b" 101 " in head and b"v1.kernel.websocket.jupyter.org" in head, head

    def execute(self, code: str) -> Cell:
        """Runs a cell to its end: reply and idle."""
        return self.collect(self.send(code))

    def send(self, code: str) -> str:
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message_id = uuid.uuid4().hex
        header = {"msg_id": message_id, "session": "test", "username": "", "date": "", "msg_type": "execute_request"}
        parts = [json.dumps(part).encode() for part in ({**header, "version": "5.3"}, {}, {}, content)]
        self._send_frame(_pack(b"shell", parts))
        return message_id

    def collect(self, message_id: str) -> Cell:
        cell = Cell()
        replied = idle = False
        while not (replied and idle):
            message = self.receive()
            if message is None:
                cell.status = "died"
                return cell
            kind, content = message["kind"], message["content"]
            if message["parent"] != message_id:
                continue
            cell.messages += 1
            if kind == "execute_reply":
                replied, cell.status, cell.count = True, content["status"], content.get("execution_count")
            elif kind == "status" and content["execution_state"] == "idle":
                idle = True
            elif kind == "stream":
                cell.outputs.append((content["name"], content["text"]))
            elif kind in ("display_data", "execute_result"):
                cell.outputs.append((kind, content["data"].get("text/plain", "")))
                cell.mime_types |= content["data"].keys()
            elif kind == "error":
                cell.outputs.append(("error", "\n".join(content["traceback"])))
        return cell

    def receive(self) -> dict[str, Any] | None:
        """The next message, or None when the socket was closed."""
        while True:
            head = self._file.read(2)
            if len(head) < 2:
                return None
            opcode, size = head[0] & 15, head[1] & 127
            if size == 126:
                (size,) = struct.unpack(">H", self._file.read(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self._file.read(8))
            payload = self._file.read(size)
            if opcode == 8:
                return None
            if opcode == 2:
                return _unpack(payload)

    def receive_stream(self, text: str) -> None:
        """Returns when the next output, which must be `text`, has come."""
        received = ""
        while received != text:
            message = self.receive()
            assert message is not None, "the socket was closed"
            if message["kind"] == "stream":
                received += message["content"]["text"]
                assert text.startswith(received)

    def receive_until_closed(self) -> None:
        while self.receive() is not None:
            pass

    def close(self) -> None:
        self._file.close()
        self._stream.shutdown(socket.SHUT_RDWR)
        self._stream.close()

    def _send_frame(self, payload: bytes) -> None:
        size = struct.pack(">BQ", 0x80 | 127, len(payload))
        self._stream.sendall(b"\x82" + size + b"\0\0\0\0" + payload)  # masked with zeros


class Cell:
    """What came of a cell."""

    def __init__(self) -> None:
        self.status = ""
        self.count: int | None = None
        self.outputs: list[tuple[str, str]] = []
        self.mime_types: set[str] = set()
        self.messages = 0

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.outputs)


def request_on(stream: socket.socket, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("gateway")
    connection.sock = stream
    connection.request(method, path, None if body is None else json.dumps(body))
    response = connection.getresponse()
    data = response.read()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(data) if is_json and data else None


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] not in (b"Z", b"X")


def wait_for_end(pid: int) -> None:
    """Returns when the process is gone; it is an error if that takes long."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], TIMEOUT_SECONDS)[0], f"process {pid} is still there"
    finally:
        os.close(descriptor)


def _read_line(stream: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = stream.recv(1)
        if not byte:
            raise EOFError
        line += byte
    return line


def _pack(channel: bytes, parts: list[bytes]) -> bytes:
    count = 1 + len(parts)
    offsets = [8 * (2 + count)]
    for part in (channel, *parts):
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{2 + count}Q", len(offsets), *offsets) + channel + b"".join(parts)


def _unpack(payload: bytes) -> dict[str, Any]:
    (count,) = struct.unpack_from("<Q", payload)
    offsets = struct.unpack_from(f"<{count}Q", payload, 8)
    parts = [payload[start:end] for start, end in itertools.pairwise(offsets)]
    header, parent, content = (json.loads(parts[index]) for index in (1, 2, 4))
    if header["msg_type"] == "stream":
        content["text"] = parts[5].decode()
    return {"kind": header["msg_type"], "parent": parent.get("msg_id"), "content": content}
