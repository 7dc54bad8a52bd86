"""The first process of a sandbox: holds the lifeline to the host, reaps, and ends everything when either side ends.

Standard library only, and started with `python -I`: nothing that a cell can write is ever imported here.
"""

from __future__ import annotations

import argparse
import codecs
import errno
import json
import os
import re
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ipybox_sandbox import process, seccomp
from ipybox_sandbox.addresses import connect
from ipybox_sandbox.disk_floor import DiskFloor
from ipybox_sandbox.mount_check import find_foreign_mount, is_elsewhere
from ipybox_sandbox.paths import BUILD_NAME, STAGING_PREFIX, Paths
from ipybox_sandbox.process_tree import kill_descendants, reap

if TYPE_CHECKING:
    from ipybox_sandbox.relay import Relay

MAX_ORDER_BYTES = 4 * 1024 * 1024
MAX_LINE_CHARS = 8192
READ_BYTES = 32 * 1024
ORDER_SECONDS = 30
DISK_SECONDS = 0.25
"""At 2 GB/s half of the floor; a file system makes no event of it."""
RELAY_PATIENCE_SECONDS = 2.0
"""For the host to take what was said last."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs until the control connection or the work ends; the exit code is 0 when the host ended it."""
    parser = argparse.ArgumentParser(prog="ipybox-init", description=__doc__)
    parser.add_argument(
        "--relay",
        choices=("abstract", "loopback"),
        help="the host is at stdin and stdout, and its sockets are made here, of this form",
    )
    parser.add_argument("--no-inet", action="store_true", help="no sockets but those of this machine")
    Paths.add_options(parser)
    options = parser.parse_args(argv)
    paths = Paths.from_options(options)
    # Walls come first: what is set here holds for everything that is started below.
    os.umask(0o022)
    # The one signal that would reach PID 1: Linux drops those that it has no handler for, and Python handles this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.forbid_inspection()
    process.drop_capabilities()
    process.forbid_new_privileges()
    if sys.platform == "linux":
        seccomp.install(with_inet=not options.no_inet)
    if not process.adopt_orphans() and os.getpid() != 1:
        raise OSError("processes that a cell leaves behind could not be found here")
    code = 1
    relay = None
    try:
        if options.relay is not None:
            relay = _start_relay(options.relay)
            paths = replace(paths, services=",".join(relay.addresses))
        code = _serve(paths)
    except OSError as error:
        print(f"init: {error}", file=sys.stderr, flush=True)
    finally:
        kill_descendants(os.getpid())
        if relay is not None:
            relay.finish(RELAY_PATIENCE_SECONDS)
        os._exit(code)


def _start_relay(form: str) -> Relay:
    """Takes stdin and stdout away from everything else, before there is anything else."""
    from ipybox_sandbox.relay import Relay  # asyncio is slow to import

    reading, writing = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), 0)
    os.dup2(2, 1)
    return Relay(reading, writing, form)


def _serve(paths: Paths) -> int:
    with connect(paths.gateway_address) as control:
        _send(control, {"role": "init", "version": 1})
        order = _read_order(control)
        _check_mounts(control, order)
        if order["mode"] == "session":
            return _watch(control, _start_session(paths, order))
        if order["mode"] == "task":
            arguments = [*paths.to_arguments(), *order["args"]]
            return _run_task(control, paths, order["module"], arguments, writes=order["writes"])
        raise OSError(f"unknown mode: {order['mode']!r}")


def _read_order(control: socket.socket) -> dict[str, Any]:
    deadline = time.monotonic() + ORDER_SECONDS
    line = b""
    while not line.endswith(b"\n"):
        control.settimeout(max(0.001, deadline - time.monotonic()))
        data = control.recv(READ_BYTES)
        if not data or len(line) > MAX_ORDER_BYTES:
            raise OSError("the host gave no order")
        line += data
    control.settimeout(None)
    order: dict[str, Any] = json.loads(line)
    return order


def _check_mounts(control: socket.socket, order: dict[str, Any]) -> None:
    shields, identity = order.get("shields", []), order.get("identity")
    if not shields and identity is None:
        return  # of processes of the host there are none, and outside of Linux no such file
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mountinfo = file.read()
    if identity is not None and is_elsewhere(order["workspace"], identity, mountinfo):
        _send(control, {"event": "elsewhere"})
        raise OSError("the workspace is not the host's")
    foreign = find_foreign_mount(shields, mountinfo)
    if foreign is not None:
        text = f"{foreign} in the workspace was replaced while the sandbox was made"
        _send(control, {"event": "log", "text": text})
        raise OSError(text)


def _start_session(paths: Paths, order: dict[str, Any]) -> dict[str, subprocess.Popen[bytes]]:
    helpers, proxy = _start_forwarder(paths, order["egress"]["caBundle"]) if "egress" in order else ({}, [])
    to_gateway, to_fork_server = socket.socketpair()
    token_reading, token_writing = os.pipe()
    with to_gateway, to_fork_server:
        fork_server = _start(
            "fork_server", [f"--gateway-fd={to_gateway.fileno()}", *paths.to_arguments()], [to_gateway.fileno()]
        )
        gateway = _start(
            "gateway",
            [
                f"--fork-server-fd={to_fork_server.fileno()}",
                f"--token-fd={token_reading}",
                f"--workspace={order['workspace']}",
                *proxy,
                *paths.to_arguments(),
            ],
            [to_fork_server.fileno(), token_reading],
        )
    os.close(token_reading)
    with os.fdopen(token_writing, "w") as pipe:
        pipe.write(order["token"])
    return {"gateway": gateway, "fork server": fork_server, **helpers}


def _start_forwarder(paths: Paths, ca_bundle: str) -> tuple[dict[str, subprocess.Popen[bytes]], list[str]]:
    """The way to the host's proxy, and the gateway's option that names it."""
    with open(paths.ca_bundle, "x", encoding="utf-8") as file:
        file.write(ca_bundle)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = [f"--listener-fd={listener.fileno()}", f"--address={paths.egress_address}"]
        forwarder = _start("forwarder", arguments, [listener.fileno()])
        return {"forwarder": forwarder}, [f"--proxy-port={listener.getsockname()[1]}"]


def _watch(control: socket.socket, helpers: dict[str, subprocess.Popen[bytes]]) -> int:
    """Waits for the end of the control connection (0) or of a helper (1)."""
    wakeup, _ = process.wake_on_child_exit()
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        while True:
            process.drain(wakeup)
            ended = reap()
            for name, helper in helpers.items():
                if helper.pid in ended:
                    code = os.waitstatus_to_exitcode(ended[helper.pid])
                    _send(control, {"event": "log", "text": f"the {name} ended with code {code}"})
                    return 1
            ready = {key.fileobj for key, _ in selector.select()}
            if control in ready and not _is_open(control):
                return 0


def _run_task(control: socket.socket, paths: Paths, module: str, args: Sequence[str], *, writes: str) -> int:
    if not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", module):
        raise OSError(f"not a module name: {module!r}")
    if writes == "scratch":
        # What is left there is for another task, and goes with the scratch.
        _attend_task(control, DiskFloor(paths.scratch), module, [f"--staging={Path(paths.scratch, BUILD_NAME)}", *args])
        return 0
    # Other sandboxes may be at work in the same volume.
    staging = Path(paths.packages, f"{STAGING_PREFIX}{secrets.token_hex(8)}")
    try:
        _attend_task(control, DiskFloor(paths.packages), module, [f"--staging={staging}", *args])
    finally:
        _remove_leftovers(staging)
    return 0


def _attend_task(control: socket.socket, floor: DiskFloor, module: str, args: list[str]) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    wakeup, _ = process.wake_on_child_exit()
    task = _start(module, args, [], output=writing)
    os.close(writing)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pending = ""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(reading, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        status: int | None = None
        at_end = False
        while status is None:
            ready = {key.fileobj for key, _ in selector.select(DISK_SECONDS)}
            if control in ready and not _is_open(control):
                return
            if floor.is_crossed():
                _send_output(
                    control, "The disk of the container engine is almost full: stopped, nothing was changed.\n"
                )
                _send(control, {"event": "exit", "code": errno.ENOSPC})
                return
            if wakeup in ready:
                process.drain(wakeup)
                status = reap().get(task.pid)
            # What the task wrote before its end is in the pipe by now; what its orphans write later is nobody's.
            if not at_end and (reading in ready or status is not None):
                pending, at_end = _forward(control, reading, decoder, pending)
                if at_end:
                    selector.unregister(reading)
    code = os.waitstatus_to_exitcode(status)
    _send_output(control, pending)
    _send(control, {"event": "exit", "code": 128 - code if code < 0 else code})


def _remove_leftovers(staging: Path) -> None:
    """Ends the task's processes, which may ignore whatever they are asked, and removes what they were at."""
    # Sessions are spared its import.
    from ipybox_sandbox.installer.files import remove_foreign

    kill_descendants(os.getpid())
    remove_foreign(staging)


def _forward(
    control: socket.socket, reading: int, decoder: codecs.IncrementalDecoder, pending: str
) -> tuple[str, bool]:
    """Sends the whole lines that are in the pipe; returns the rest of a line, and whether the pipe has ended."""
    while True:
        try:
            data = os.read(reading, READ_BYTES)
        except BlockingIOError:
            return pending, False
        pending += decoder.decode(data, final=not data)
        if not data:
            return pending, True
        complete = max(pending.rfind("\n") + 1, len(pending) - MAX_LINE_CHARS)
        _send_output(control, pending[:complete] if complete > 0 else "")
        pending = pending[max(0, complete) :]


def _send_output(control: socket.socket, text: str) -> None:
    for start in range(0, len(text), MAX_LINE_CHARS):
        _send(control, {"event": "output", "text": text[start : start + MAX_LINE_CHARS]})


def _start(module: str, args: list[str], descriptors: list[int], output: int | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-m", f"ipybox_sandbox.{module}", *args],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=descriptors,
        env=process.base_environment(),
    )


def _is_open(control: socket.socket) -> bool:
    """The host says nothing after its order, so what can be read here is the end."""
    try:
        return bool(control.recv(READ_BYTES))
    except OSError:
        return False


def _send(control: socket.socket, event: dict[str, Any]) -> None:
    control.sendall(json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    main()
