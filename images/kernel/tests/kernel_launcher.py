"""Runs the sandbox's kernel as Jupyter starts kernels: `kernel_launcher.py CONNECTION_FILE`.

Jupyter's clients hear what it publishes from a ZeroMQ socket; in a sandbox the gateway reads the pipe.
"""

import json
import os
import sys
import threading

import zmq
from jupyter_client.session import Session

from ipybox_sandbox.kernel_app import SandboxKernelApp
from ipybox_sandbox.output_frames import FrameReader, Text


def publish(reading: int, connection_file: str) -> None:
    with open(connection_file) as file:
        connection = json.load(file)
    session = Session(key=connection["key"].encode())
    socket = zmq.Context().socket(zmq.PUB)
    socket.bind(f"{connection['transport']}://{connection['ip']}:{connection['iopub_port']}")
    frames = FrameReader()
    while data := os.read(reading, 65536):
        for item in frames.feed(data):
            if isinstance(item, Text):
                content = {"name": item.stream, "text": item.text}
                session.send(socket, "stream", content, parent={"msg_id": item.parent})
            else:
                socket.send_multipart(item)


path = f"{sys.argv[1]}.output"
os.mkfifo(path)
reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
app = SandboxKernelApp.instance(connection_file=sys.argv[1])
app.initialize([])
os.set_blocking(reading, True)
threading.Thread(target=publish, args=(reading, sys.argv[1]), daemon=True).start()
app.start()
