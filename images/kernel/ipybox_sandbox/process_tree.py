"""Ends whole process trees, those that try to get away included. Standard library only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence

PATIENCE_SECONDS = 5.0
FORKING_PROCESSES = 32
"""More than what a computation has on a few processors, and soon surpassed by what forks without end."""
FORKING_SECONDS = 0.05
_RESCAN_SECONDS = 0.1


def kill_descendants(*roots: int, spared: Collection[int] = ()) -> None:
    """Kills every descendant of `roots`, but not the trees of the processes in `spared`; reaps those of this process.

    All are stopped first, over and over until no new one is found: a stopped process can't fork. A process whose parent
    ends while the list is read may be missing from it, so it is read again until nothing is left. What a dying process
    leaves behind must stay below a root: one of them adopts orphans (see `process.adopt_orphans`). Gives up after
    `PATIENCE_SECONDS` on processes that even SIGKILL does not end, in uninterruptible sleep.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    # Children that end while the others are looked for must not be missed by the wait below.
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        while _stop_and_kill(roots, spared) and time.monotonic() < deadline:
            if not reap():
                _await_child(_RESCAN_SECONDS)
        reap()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


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


def _stop_and_kill(roots: Sequence[int], spared: Collection[int]) -> bool:
    """Whether there was anything to kill."""
    stopped: set[int] = set()
    while found := _descendants(roots, spared) - stopped:
        for pid in found:
            _send(pid, signal.SIGSTOP)
        stopped |= found
    for pid in stopped:
        _send(pid, signal.SIGKILL)
    return bool(stopped)


def is_forking(root: int) -> bool:
    """Whether there are many processes below `root`, and new ones all the time: a fork bomb, at its limit or before."""
    before = _descendants([root], ())
    if len(before) < FORKING_PROCESSES:
        return False
    time.sleep(FORKING_SECONDS)
    return bool(_descendants([root], ()) - before)


def children_of(parent: int) -> set[int]:
    """Its children that are alive."""
    return {pid for pid, its_parent in _living() if its_parent == parent}


def _descendants(roots: Sequence[int], spared: Collection[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in _living():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [*roots]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in spared and pid not in found:
                found.add(pid)
                waiting.append(pid)
    return found


def _await_child(seconds: float) -> None:
    """Until a child has ended; SIGCHLD is blocked."""
    if sys.platform == "darwin":  # which can't wait for a signal with a deadline
        time.sleep(seconds)
    else:
        signal.sigtimedwait({signal.SIGCHLD}, seconds)


def _living() -> list[tuple[int, int]]:
    """(pid, parent) of every process that is no zombie. Zombies have no children."""
    return _living_by_proc() if sys.platform == "linux" else _living_by_ps()


def _living_by_ps() -> list[tuple[int, int]]:
    with subprocess.Popen(["/bin/ps", "-axo", "pid=,ppid=,stat="], stdout=subprocess.PIPE, text=True) as ps:
        rows = [line.split() for line in ps.communicate()[0].splitlines()]
    return [(int(pid), int(parent)) for pid, parent, state in rows if not state.startswith("Z") and int(pid) != ps.pid]


def _living_by_proc() -> list[tuple[int, int]]:
    if os.readlink("/proc/self") != str(os.getpid()):
        return _living_by_foreign_proc()
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


def _living_by_foreign_proc() -> list[tuple[int, int]]:
    """For a `/proc` of a PID namespace above this one, as in sandbox-runtime: its numbers are not those of `kill`."""
    depth = len(_numbers_of("self"))
    numbers: dict[int, int] = {}
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = _read_status(name)
        except OSError:
            continue  # ended meanwhile
        own_numbers = status["NSpid"].split()
        if len(own_numbers) >= depth and status["State"][0] not in "ZX":
            numbers[int(name)] = int(own_numbers[depth - 1])
            parents[int(name)] = int(status["PPid"])
    return [(number, numbers.get(parents[outer], 0)) for outer, number in numbers.items()]


def _numbers_of(name: str) -> list[str]:
    return _read_status(name)["NSpid"].split()


def _read_status(name: str) -> dict[str, str]:
    with open(f"/proc/{name}/status", encoding="utf-8", errors="replace") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def _send(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass
