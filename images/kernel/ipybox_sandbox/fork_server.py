"""Forks kernels in milliseconds from a process that has imported what every kernel needs.

Talks to the gateway over a socket, one JSON object a line. Requests: `{"start": id, "connectionFile", "env", "cwd"}`,
`{"interrupt": id}`, `{"kill": id}`. Events: `{"ready": id}` when a kernel has bound its sockets, `{"interrupted": id}`
when it has been sent the signal, and `{"exited": id, "cause"}` when its whole tree is gone; a kernel that could not
start has exited without having been ready. Single-threaded, since it forks.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ipybox_sandbox import kernel_tree, process
from ipybox_sandbox.kernel import KernelOrder, preload, run_kernel
from ipybox_sandbox.oom import oom_kills
from ipybox_sandbox.paths import Paths
from ipybox_sandbox.process_tree import children_of, is_forking, kill_descendants, reap

READ_BYTES = 64 * 1024
CELL_NICENESS = 19
"""However many processes a cell runs, init, gateway and this one get their turn, or nobody could stop it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until the gateway ends, then takes every kernel with it."""
    parser = argparse.ArgumentParser(prog="ipybox-fork-server", description=__doc__)
    parser.add_argument("--gateway-fd", type=int, required=True)
    Paths.add_options(parser)
    options = parser.parse_args(argv)
    process.die_with(os.getppid())
    process.forbid_inspection()
    adopts_orphans = process.adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload()
    gc.collect()
    gc.freeze()  # so that collections in kernels don't touch, and thereby copy, what they share
    gateway = socket.socket(fileno=options.gateway_fd)
    ForkServer(gateway, Paths.from_options(options), adopts_orphans=adopts_orphans).serve()
    return 0


@dataclass
class _Tree:
    """A kernel, its subreaper and whatever it starts."""

    kernel_id: str
    subreaper: int
    reports: int
    """Where the subreaper and, until it is ready, the kernel write."""
    oom_kills: int
    kernel: int | None = None
    unread: bytearray = field(default_factory=bytearray)


class ForkServer:
    """Owns the trees of all kernels of a sandbox."""

    def __init__(self, gateway: socket.socket, paths: Paths, *, adopts_orphans: bool) -> None:
        self._gateway = gateway
        self._paths = paths
        # Where kernels' orphans go, and what of init's children is none. Another kernel's orphans can't be told apart.
        self._roots = [os.getpid()] if adopts_orphans else [os.getpid(), os.getppid()]
        self._helpers: set[int] = set()
        # Without one, cells share the processors with the rest of the host, which they would starve behind.
        self._has_container = os.getppid() == 1
        self._unread = bytearray()
        self._trees: dict[str, _Tree] = {}
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_writing = process.wake_on_child_exit()
        self._selector.register(gateway, selectors.EVENT_READ)
        self._selector.register(self._wakeup, selectors.EVENT_READ)

    def serve(self) -> None:
        """Returns when the gateway has closed its end, with every kernel killed."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._gateway:
                    if not self._receive():
                        kill_descendants(os.getpid())
                        return
                elif key.fileobj == self._wakeup:
                    process.drain(self._wakeup)
                    reap()
                elif key.data.kernel_id in self._trees:  # not ended by an earlier one of these events
                    self._read_reports(key.data)

    def _receive(self) -> bool:
        try:
            data = self._gateway.recv(READ_BYTES)
        except ConnectionResetError:
            data = b""
        self._unread += data
        for message in _take_lines(self._unread):
            self._handle(message)
        return bool(data)

    def _handle(self, message: dict[str, Any]) -> None:
        if "start" in message:
            order = KernelOrder(
                connection_file=message["connectionFile"],
                env=message["env"],
                cwd=message["cwd"],
                paths=self._paths,
                niceness=CELL_NICENESS if self._has_container else 0,
            )
            self._start(message["start"], order)
        elif (tree := self._trees.get(message.get("interrupt") or message.get("kill") or "")) is None:
            pass  # it has ended meanwhile, which the gateway is told
        elif "kill" in message or not _can_fork() or is_forking(tree.subreaper):
            # An interrupt misses what is just being forked, so of a fork bomb something is left, and is one again.
            self._end(tree, {"type": "signal", "signal": "SIGKILL"})
        else:
            if tree.kernel is not None:
                _interrupt(tree.kernel)
            self._send({"interrupted": tree.kernel_id})

    def _start(self, kernel_id: str, order: KernelOrder) -> None:
        if os.getppid() in self._roots and not self._helpers:  # before the first kernel, none is an orphan
            self._helpers = children_of(os.getppid())
        reading, writing = os.pipe()
        kills = oom_kills()
        own_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # the limit of processes
            os.close(reading)
            os.close(writing)
            print(f"fork server: {error}", file=sys.stderr, flush=True)
            self._send({"exited": kernel_id, "cause": {"type": "exit", "code": 1}})
            return
        if pid == 0:
            try:
                process.die_with(own_pid)
                os.close(reading)
                self._close_in_child()
                kernel_tree.run_subreaper(writing, lambda: run_kernel(order, writing))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(writing)
        tree = self._trees[kernel_id] = _Tree(kernel_id, pid, reading, kills)
        self._selector.register(reading, selectors.EVENT_READ, tree)

    def _close_in_child(self) -> None:
        """A kernel has no way to the gateway, nor to other kernels' subreapers."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._gateway.close()
        os.close(self._wakeup)
        os.close(self._wakeup_writing)
        for tree in self._trees.values():
            os.close(tree.reports)

    def _read_reports(self, tree: _Tree) -> None:
        data = os.read(tree.reports, READ_BYTES)
        tree.unread += data
        for message in _take_lines(tree.unread):
            if "kernel" in message:
                tree.kernel = message["kernel"]
            elif "ready" in message:
                self._send({"ready": tree.kernel_id})
            elif "exited" in message:
                return self._end(tree, {"type": "exit", "code": message["exited"]})
            elif message["signalled"] == signal.SIGKILL and oom_kills() > tree.oom_kills:
                return self._end(tree, {"type": "out-of-memory"})
            else:
                return self._end(tree, {"type": "signal", "signal": _name_of(message["signalled"])})
        if not data:  # the subreaper was killed, and its kernel with it
            self._end(tree, {"type": "signal", "signal": "SIGKILL"})

    def _end(self, tree: _Tree, cause: dict[str, Any]) -> None:
        del self._trees[tree.kernel_id]
        self._selector.unregister(tree.reports)
        os.close(tree.reports)
        # Not only what is below the subreaper: had it been killed, its orphans would be ours by now.
        subreapers = {other.subreaper for other in self._trees.values()}
        kill_descendants(*self._roots, spared=subreapers | self._helpers)
        self._send({"exited": tree.kernel_id, "cause": cause})

    def _send(self, event: dict[str, Any]) -> None:
        try:
            self._gateway.sendall(json.dumps(event).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the end of the connection is seen where it is read


def _can_fork() -> bool:
    """Whether there is room for one more process."""
    try:
        pid = os.fork()
    except BlockingIOError:
        return False
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


def _interrupt(kernel: int) -> None:
    try:
        os.killpg(kernel, signal.SIGINT)
    except ProcessLookupError:  # it has moved itself to another group
        os.kill(kernel, signal.SIGINT)


def _take_lines(unread: bytearray) -> list[dict[str, Any]]:
    """The complete messages at the start of `unread`, which keeps the rest."""
    end = unread.rfind(b"\n") + 1
    lines = bytes(unread[:end]).splitlines()
    del unread[:end]
    return [json.loads(line) for line in lines]


def _name_of(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"SIG{signum}"


if __name__ == "__main__":
    sys.exit(main())
