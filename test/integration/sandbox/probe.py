"""A task that reports what it can do, for the tests of a task's walls."""

import json
import os
import socket
import sys


def attempt(path: str) -> str:
    """Try to make a file."""
    try:
        with open(path, "x"):
            return "made"
    except OSError as error:
        return os.strerror(error.errno or 0)


def read(path: str) -> str:
    """Try to read a file."""
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        return os.strerror(error.errno or 0)


def ask_egress() -> str:
    """Send a line to the egress socket and read one."""
    with socket.socket(socket.AF_UNIX) as egress:
        egress.connect("/run/ipybox/egress.sock")
        egress.sendall(b"hello\n")
        return egress.makefile().readline().strip()


print(
    json.dumps(
        {
            "arguments": sys.argv[1:],
            "packages": attempt("/opt/ipybox/packages/probe"),
            "workspace": attempt("/workspace/probe"),
            "secret": read("/workspace/.env"),
            "egress": ask_egress(),
            "bridge": os.path.exists("/run/ipybox/tools.sock"),
        }
    ),
    flush=True,
)
print("to stderr", file=sys.stderr)
sys.exit(7)
