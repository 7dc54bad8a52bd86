"""The filter of system calls: its decisions, and that the kernel takes it and programs live with it."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ipybox_sandbox import process, seccomp
from ipybox_sandbox.seccomp import ALLOW, KILL_PROCESS, MACHINES, REFUSE, REFUSE_FAMILY, UNKNOWN

CREATE = os.O_CREAT | os.O_WRONLY
TEMPORARY = 0o20000000
NEW_USER, NEW_TIME, THREAD = 0x10000000, 0x80, 0x00010F00
GARBAGE = 0xFFFFFFFF_00000000
"""In the upper half of a register, which the kernel ignores for an int."""

INIT_ALONE = ("sched_setparam", "sched_setscheduler", "sched_setattr", "sched_setaffinity", "prlimit64")
"""Calls that change the process which their first argument names."""

DECISIONS = [
    ("chmod", (0, 0o755), ALLOW),
    ("chmod", (0, 0o1777), ALLOW),
    ("chmod", (0, 0o4755), REFUSE),
    ("chmod", (0, 0o2755), REFUSE),
    ("fchmod", (0, 0o644), ALLOW),
    ("fchmod", (0, GARBAGE | 0o6755), REFUSE),
    ("fchmodat", (0, 0, 0o755), ALLOW),
    ("fchmodat", (0, 0, 0o4755), REFUSE),
    ("fchmodat2", (0, 0, 0o755), ALLOW),
    ("fchmodat2", (0, 0, 0o2000), REFUSE),
    ("creat", (0, 0o644), ALLOW),
    ("creat", (0, 0o4755), REFUSE),
    ("mkdir", (0, 0o755), ALLOW),
    ("mkdir", (0, 0o2755), REFUSE),
    ("mkdirat", (0, 0, 0o755), ALLOW),
    ("mkdirat", (0, 0, 0o2755), REFUSE),
    ("mknod", (0, 0o10644), ALLOW),
    ("mknod", (0, 0o104755), REFUSE),
    ("mknodat", (0, 0, 0o10644), ALLOW),
    ("mknodat", (0, 0, 0o104755), REFUSE),
    ("open", (0, os.O_RDONLY, 0o4755), ALLOW),
    ("open", (0, CREATE, 0o644), ALLOW),
    ("open", (0, CREATE, 0o4755), REFUSE),
    ("openat", (0, 0, os.O_RDONLY, 0o7777), ALLOW),
    ("openat", (0, 0, CREATE, 0o600), ALLOW),
    ("openat", (0, 0, CREATE, 0o4755), REFUSE),
    ("openat", (0, 0, TEMPORARY, 0o2755), REFUSE),
    ("openat2", (), UNKNOWN),
    *(("socket", (family, socket.SOCK_STREAM), ALLOW) for family in (1, 2, 10, 16)),
    *(("socket", (family, socket.SOCK_RAW), REFUSE_FAMILY) for family in range(50) if family not in (1, 2, 10, 16)),
    ("socket", (GARBAGE | socket.AF_PACKET, socket.SOCK_RAW), REFUSE_FAMILY),
    ("socket", (socket.AF_INET, 10), REFUSE_FAMILY),
    ("socket", (socket.AF_INET, 10 | socket.SOCK_CLOEXEC), REFUSE_FAMILY),
    ("socket", (socket.AF_UNIX, socket.SOCK_DGRAM), ALLOW),
    ("socketpair", (socket.AF_UNIX, socket.SOCK_STREAM), ALLOW),
    ("socketpair", (30, socket.SOCK_STREAM), REFUSE_FAMILY),
    ("clone", (THREAD,), ALLOW),
    ("clone", (signal.SIGCHLD,), ALLOW),
    ("clone", (NEW_USER | signal.SIGCHLD,), REFUSE),
    ("clone", (0x40000000,), REFUSE),
    ("clone3", (), UNKNOWN),
    ("unshare", (0x400,), ALLOW),  # CLONE_FILES
    ("unshare", (NEW_USER,), REFUSE),
    ("unshare", (NEW_TIME,), REFUSE),
    *((call, (), REFUSE) for call in ("setns", "mount", "umount2", "pivot_root")),
    *(
        (call, (), UNKNOWN)
        for call in seccomp.CALLS
        if call.startswith(("io_uring_", "fs", "open_tree", "move_mount", "mount_setattr"))
        or call in ("userfaultfd", "add_key", "request_key", "keyctl", "bpf", "perf_event_open")
    ),
    *((call, (pid, 0), ALLOW) for call in INIT_ALONE for pid in (0, 2)),
    *((call, (GARBAGE | 1, 0), REFUSE) for call in INIT_ALONE),
    *((call, (1, pid), ALLOW) for call in ("setpriority", "ioprio_set") for pid in (0, 2)),
    *((call, (0, 1), REFUSE) for call in ("setpriority", "ioprio_set")),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("call", "arguments", "action"), DECISIONS)
def test_each_call_is_decided_by_its_arguments(
    machine: str, call: str, arguments: tuple[int, ...], action: int
) -> None:
    number = MACHINES[machine].number_of(call)
    if number is None:
        assert CALLED_OTHERWISE.get(call) in seccomp.CALLS
    else:
        assert decide(machine, number, arguments) == action


CALLED_OTHERWISE = {"open": "openat", "creat": "openat", "chmod": "fchmodat", "mkdir": "mkdirat", "mknod": "mknodat"}
"""What machines without the older call have in its place."""


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("call", ["socket", "socketpair"])
def test_without_inet_only_the_families_of_this_machine_are_left(machine: str, call: str) -> None:
    number = MACHINES[machine].number_of(call)
    assert number is not None
    families = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET)
    actions = [
        decide(machine, number, (family, socket.SOCK_STREAM), rules=seccomp.NO_INET_RULES) for family in families
    ]
    assert actions == [ALLOW, REFUSE_FAMILY, REFUSE_FAMILY, ALLOW, REFUSE_FAMILY]


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_without_a_rule_are_allowed(machine: str) -> None:
    numbers = {MACHINES[machine].number_of(call) for call in seccomp.CALLS}
    everything = (0xFFFFFFFF_FFFFFFFF,) * 6
    assert {decide(machine, number, everything) for number in range(500) if number not in numbers} == {ALLOW}


def test_the_calls_of_other_abis_are_not_taken_for_ours() -> None:
    assert decide("x86_64", seccomp.X32_BIT | 39) == UNKNOWN
    for machine, foreign in (("x86_64", 0x40000003), ("aarch64", 0x40000028)):
        assert decide(machine, 20, arch=foreign) == KILL_PROCESS


def test_every_rule_is_tried() -> None:
    tried = {(call, action) for call, _, action in DECISIONS}
    assert {(call, rule.action) for rule in seccomp.RULES for call in rule.calls} <= tried


LIBC = ctypes.CDLL(None, use_errno=True)
HERE = os.uname().machine


@pytest.mark.parametrize(
    ("call", "arguments", "code"),
    [
        ("unshare", (NEW_USER,), errno.EPERM),
        ("unshare", (0x400,), 0),
        ("clone3", (None, 0), errno.ENOSYS),
        ("openat2", (None, None, None, 0), errno.ENOSYS),
        ("io_uring_setup", (1, None), errno.ENOSYS),
        ("userfaultfd", (0,), errno.ENOSYS),
        ("keyctl", (0, 0), errno.ENOSYS),
        ("bpf", (0, None, 0), errno.ENOSYS),
        ("perf_event_open", (None, 0, 0, -1, 0), errno.ENOSYS),
        ("mount", (None, None, None, 0, None), errno.EPERM),
        ("fsopen", (None, 0), errno.ENOSYS),
        ("socket", (socket.AF_PACKET, socket.SOCK_RAW, 0), errno.EAFNOSUPPORT),
        ("socket", (40, socket.SOCK_STREAM, 0), errno.EAFNOSUPPORT),  # AF_VSOCK
        ("socket", (38, socket.SOCK_SEQPACKET, 0), errno.EAFNOSUPPORT),  # AF_ALG
    ],
)
def test_the_kernel_gives_the_answer(call: str, arguments: tuple[int | None, ...], code: int) -> None:
    def attempt() -> int:
        number = MACHINES[HERE].number_of(call)
        ctypes.set_errno(0)
        return ctypes.get_errno() if LIBC.syscall(number, *arguments) < 0 else 0

    assert in_filtered_child(attempt) == code


def test_no_setuid_bit_is_set_and_others_are(tmp_path: Path) -> None:
    path = tmp_path / "program"

    def attempt() -> int:
        path.touch(mode=0o644)
        path.chmod(0o755)
        for mode in (0o4755, 0o2755):
            for name in (str(path), os.open(path, os.O_RDONLY)):
                try:
                    os.chmod(name, mode)
                except PermissionError:
                    continue
                return 1
            try:
                os.open(tmp_path / "new", CREATE, mode)
            except PermissionError:
                continue
            return 2
        return 0

    assert in_filtered_child(attempt) == 0
    assert path.stat().st_mode & 0o7777 == 0o755
    path.chmod(0o4755)  # without the filter
    assert path.stat().st_mode & 0o7777 == 0o4755


if HERE == "x86_64":  # whose kernel takes them from any program

    def test_32_bit_calls_end_the_process() -> None:
        def attempt() -> int:
            code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
            ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
            return 0

        assert in_filtered_child(attempt) == -signal.SIGSYS


def test_programs_live_with_it() -> None:
    program = (
        "import asyncio, socket, subprocess, sys, threading\n"
        "async def main():\n"
        "    process = await asyncio.create_subprocess_exec(sys.executable, '-c', 'print(1)', stdout=-1)\n"
        "    await process.communicate()\n"
        "    await asyncio.to_thread(sum, [1])\n"
        "asyncio.run(main())\n"
        "threading.Thread(target=print).start()\n"
        "subprocess.run(['true'], check=True)\n"
        "socket.socketpair()[0].close()\n"
        "socket.create_server(('127.0.0.1', 0)).close()\n"
    )

    def attempt() -> int:
        return subprocess.run([sys.executable, "-I", "-c", program], stdout=subprocess.DEVNULL).returncode

    assert in_filtered_child(attempt) == 0


def test_it_is_inherited_and_said_by_the_kernel() -> None:
    def attempt() -> int:
        found = subprocess.run(["grep", "-c", "Seccomp:\t2", "/proc/self/status"], stdout=subprocess.DEVNULL)
        return found.returncode

    assert in_filtered_child(attempt) == 0


def test_without_a_filter_for_the_machine_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "MACHINES", {})
    with pytest.raises(OSError, match="no system call filter for"):
        seccomp.install()


def in_filtered_child(attempt: Callable[[], int]) -> int:
    """What `attempt` returns in a child under the filter; the negative number of a signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            process.forbid_new_privileges()
            seccomp.install()
            code = attempt()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def decide(
    machine: str,
    number: int,
    arguments: tuple[int, ...] = (),
    arch: int | None = None,
    rules: Sequence[seccomp.Rule] = seccomp.RULES,
) -> int:
    """Interprets the program of a machine, this one or another, over one `struct seccomp_data`."""
    six = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number, MACHINES[machine].audit_arch if arch is None else arch, 0, *six)
    program = list(seccomp.INSTRUCTION.iter_unpack(seccomp.assemble(MACHINES[machine], rules)))
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        if code == seccomp.RETURN:
            return operand
        if code == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == seccomp.AND:
            accumulator &= operand
        elif code == 0x05:  # always
            at += operand
        else:
            at += if_true if (accumulator == operand if code == 0x15 else accumulator & operand) else if_false
