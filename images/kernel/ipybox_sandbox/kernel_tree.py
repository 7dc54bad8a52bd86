"""The process above each kernel, below which stays whatever the kernel leaves behind. Standard library only."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from ipybox_sandbox import process


def run_subreaper(report_fd: int, run_kernel: Callable[[], None]) -> NoReturn:
    """Turns this freshly forked process into the subreaper of one kernel, which it forks to run `run_kernel`.

    Writes JSON lines to `report_fd`: `{"kernel": pid}`, and at the kernel's end `{"exited": code}` or
    `{"signalled": number}`. Then it waits to be killed, with the rest of the tree, by the fork server. The kernel and
    the fork server take it with them.
    """
    process.restore_signals()
    os.setsid()
    process.adopt_orphans()
    own_pid = os.getpid()
    kernel_pid = os.fork()
    if kernel_pid == 0:
        process.die_with(own_pid)
        os.setpgid(0, 0)  # what an interrupt is sent to
        run_kernel()
        os._exit(0)
    report(report_fd, {"kernel": kernel_pid})
    report(report_fd, _await_end(kernel_pid))
    while True:
        signal.pause()


def _await_end(kernel_pid: int) -> dict[str, int]:
    if not hasattr(os, "waitid"):  # macOS with a Python before 3.13
        code = os.waitstatus_to_exitcode(os.waitpid(kernel_pid, 0)[1])
        return {"exited": code} if code >= 0 else {"signalled": -code}
    while True:
        # The kernel itself is not reaped: its number must not be taken by another process while it can be signalled.
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is not None and ended.si_pid == kernel_pid:
            return {("exited" if ended.si_code == os.CLD_EXITED else "signalled"): ended.si_status}
        if ended is not None:
            os.waitpid(ended.si_pid, 0)


def report(descriptor: int, message: dict[str, Any]) -> None:
    """Writes one line, short enough to be atomic."""
    os.write(descriptor, json.dumps(message).encode() + b"\n")
