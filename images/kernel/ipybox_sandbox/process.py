"""What the programs of a sandbox ask of the Linux kernel about themselves. Standard library only.

Elsewhere (macOS, with an engine that uses no container) the same calls do nothing: there is no such wall.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_CAPABILITY_VERSION_3 = 0x20080522

_SECCOMP_MODE_FILTER = 2

_libc = ctypes.CDLL(None, use_errno=True)


def forbid_inspection() -> None:
    """No ptrace and no `/proc/<pid>/mem` for others of this user. Forked children inherit it, exec lifts it."""
    _prctl(_PR_SET_DUMPABLE, 0)


def allow_inspection() -> None:
    """Undoes `forbid_inspection`, which also takes away a process's own writes to `/proc/self`."""
    _prctl(_PR_SET_DUMPABLE, 1)


def forbid_new_privileges() -> None:
    """No program that is started from here on gains rights from setuid bits. Can't be undone."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """What a server handed down to start this process as another user. Root keeps its own: it may be all there is."""
    if sys.platform != "linux" or os.geteuid() == 0:
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; each in two halves. What is in neither of the last two is not ambient either.
    sets = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, sets) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")


def filter_system_calls(instructions: ctypes.Array[ctypes.c_char], count: int) -> None:
    """Every system call of this process and its descendants passes this BPF program. Needs `forbid_new_privileges`."""
    program = _FilterProgram(count, ctypes.addressof(instructions))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def adopt_orphans() -> bool:
    """Descendants whose parent ends become children of this process; False where they are always PID 1's (gVisor)."""
    try:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def die_with(parent: int) -> None:
    """This process is killed as soon as `parent`, which must be its parent, ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def restore_signals() -> None:
    """The handlers that a Python program starts with, and no wakeup descriptor."""
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(signum, signal.SIG_DFL)
        except OSError:
            pass  # numbers that libc keeps for itself
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def wake_on_child_exit() -> tuple[int, int]:
    """A pipe whose first end becomes readable when a child ends, and now and then without reason."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
    return reading, writing


def drain(descriptor: int) -> None:
    """Takes what a wakeup descriptor holds."""
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass


def base_environment() -> dict[str, str]:
    """The only variables that programs of the sandbox inherit."""
    defaults = {"PATH": os.defpath, "HOME": "/home/ipybox", "USER": "ipybox", "LANG": "C.UTF-8"}
    own_tmp = {"TMPDIR": os.environ["TMPDIR"]} if "TMPDIR" in os.environ else {}  # where /tmp is the host's
    return {name: os.environ.get(name, default) for name, default in defaults.items()} | own_tmp


class _FilterProgram(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _prctl(option: int, argument: int, further: int = 0) -> None:
    if sys.platform != "linux":
        return
    arguments = [ctypes.c_ulong(value) for value in (argument, further, 0, 0)]
    if _libc.prctl(option, *arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {argument}): {os.strerror(code)}")
