"""Runs the sandbox's kernel as Jupyter starts kernels: `kernel_launcher.py CONNECTION_FILE`.

Jupyter's clients speak to ZeroMQ sockets; in a sandbox the gateway has the other ends of the kernel's two pipes.
"""

import json
import os
import sys
import threading

import zmq
from jupyter_client.session import DELIM, Session

from ipybox_sandbox.kernel_app import SandboxKernelApp
from ipybox_sandbox.output_frames import FrameReader, Text
from ipybox_sandbox.shell_channel import is_reply, pack_request


class Sockets:
    """What a client connects to."""

    def __init__(self, connection_file: str, reading: int, writing: int) -> None:
        with open(connection_file) as file:
            connection = json.load(file)
        self._session = Session(key=connection["key"].encode())
        self._reading, self._writing = reading, writing
        self._context = zmq.Context()
        address = f"ipc://{connection['ip']}"
        # One thread reads the pipe, the other has the sockets.
        self._from_pipe = self._bind(zmq.PAIR, "inproc://pipe")
        self._shell = self._bind(zmq.ROUTER, f"{address}-{connection['shell_port']}")
        self._iopub = self._bind(zmq.PUB, f"{address}-{connection['iopub_port']}")
        self._client: list[bytes] = []

    def serve(self) -> None:
        threading.Thread(target=self._read_pipe, daemon=True).start()
        poller = zmq.Poller()
        for socket in (self._shell, self._from_pipe):
            poller.register(socket, zmq.POLLIN)
        while True:
            for socket, _ in poller.poll():
                message = socket.recv_multipart()
                delimiter = message.index(DELIM)
                if socket is self._shell:
                    self._client = message[:delimiter]
                    os.write(self._writing, pack_request(message[delimiter:]))
                elif is_reply(message):
                    self._shell.send_multipart([*self._client, *message[delimiter:]])
                else:
                    self._iopub.send_multipart(message)

    def _bind(self, kind: int, address: str) -> zmq.Socket:
        socket = self._context.socket(kind)
        socket.bind(address)
        return socket

    def _read_pipe(self) -> None:
        to_sockets = self._context.socket(zmq.PAIR)
        to_sockets.connect("inproc://pipe")
        frames = FrameReader()
        while data := os.read(self._reading, 65536):
            for item in frames.feed(data):
                if isinstance(item, Text):
                    content = {"name": item.stream, "text": item.text}
                    self._session.send(to_sockets, "stream", content, parent={"msg_id": item.parent})
                else:
                    to_sockets.send_multipart(item)


paths = [f"{sys.argv[1]}.{name}" for name in ("output", "bell", "requests")]
for path in paths:
    os.mkfifo(path)
reading = os.open(paths[0], os.O_RDONLY | os.O_NONBLOCK)
bell = os.open(paths[1], os.O_RDONLY | os.O_NONBLOCK)  # which nobody hears
writing = os.open(paths[2], os.O_RDWR)
app = SandboxKernelApp.instance(connection_file=sys.argv[1])
app.initialize([])
os.set_blocking(reading, True)
threading.Thread(target=Sockets(sys.argv[1], reading, writing).serve, daemon=True).start()
app.start()
