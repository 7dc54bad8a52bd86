"""Ends whole process trees, those that try to get away included. Standard library only."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection


def kill_descendants(root: int, spared: Collection[int] = ()) -> None:
    """Kills every descendant of `root`, but neither `root` nor the trees below the processes in `spared`.

    All are stopped first, over and over until no new one is found: a stopped process can't fork, so none escapes. What
    a dying process leaves behind must stay below `root`, so `root` adopts orphans (see `process.adopt_orphans`).
    """
    stopped: set[int] = set()
    while found := _descendants(root, spared) - stopped:
        for pid in found:
            _send(pid, signal.SIGSTOP)
        stopped |= found
    for pid in stopped:
        _send(pid, signal.SIGKILL)


def reap() -> dict[int, int]:
    """Reaps every child that has ended, without waiting: pid → wait status."""
    ended: dict[int, int] = {}
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    except ChildProcessError:
        pass
    return ended


def _descendants(root: int, spared: Collection[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in _living():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in spared and pid not in found:
                found.add(pid)
                waiting.append(pid)
    return found


def _living() -> list[tuple[int, int]]:
    """(pid, parent) of every process that is no zombie. Zombies have no children."""
    living: list[tuple[int, int]] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                stat = file.read()
        except OSError:
            continue  # ended meanwhile
        # The command name, in parentheses, may hold spaces and parentheses itself.
        state, parent = stat[stat.rindex(b")") + 2 :].split(b" ", 2)[:2]
        if state not in (b"Z", b"X"):
            living.append((int(name), int(parent)))
    return living


def _send(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass
