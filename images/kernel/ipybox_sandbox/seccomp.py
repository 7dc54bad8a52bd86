"""The sandbox's own filter of system calls, on top of whatever the engine sets. Standard library only.

A classic BPF program that the Linux kernel runs at every system call of init and of everything that init starts. It
needs no privileges, only `no_new_privs`, so it holds outside containers too. Two answers are given on purpose:

- `ENOSYS` for whole system calls that a sandbox does without: programs take it for an older kernel, and fall back;
- `EPERM` (for sockets `EAFNOSUPPORT`) where only some arguments are refused.

`ptrace` and `process_vm_readv` stay, because debuggers need them: what must not be looked into is not dumpable, and
that refuses both (see `process.forbid_inspection`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ipybox_sandbox import process

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
REFUSE = _ERRNO | errno.EPERM
REFUSE_FAMILY = _ERRNO | errno.EAFNOSUPPORT
UNKNOWN = _ERRNO | errno.ENOSYS

X32_BIT = 0x40000000
"""Set in the numbers of x86_64's second ABI, whose calls would pass by rules that know the first one's numbers."""

# name: (x86_64, aarch64), from the kernel's system call tables; None where there is no such call.
CALLS: dict[str, tuple[int, int | None]] = {
    "open": (2, None),
    "creat": (85, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "clone3": (435, 435),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "prlimit64": (302, 261),
}


@dataclass(frozen=True)
class Machine:
    """A processor architecture: its number in `struct seccomp_data`, and its column in `CALLS`."""

    audit_arch: int
    column: int

    def number_of(self, call: str) -> int | None:
        """The number of a call, if the machine has it."""
        return CALLS[call][self.column]


MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}


@dataclass(frozen=True)
class HasBit:
    """The argument's lower half has one of these bits."""

    argument: int
    bits: int


@dataclass(frozen=True)
class NotIn:
    """The argument's lower half is none of these values."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class IsMasked:
    """The argument's lower half has this value in the bits of the mask."""

    argument: int
    mask: int
    value: int


Condition = HasBit | NotIn | IsMasked


@dataclass(frozen=True)
class Rule:
    """What becomes of calls whose arguments meet every condition."""

    action: int
    calls: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()


_SET_ID_BITS = 0o6000
_CREATES = 0o100 | 0o20000000  # O_CREAT, O_TMPFILE: without them, the mode is whatever the register holds
_LOCAL_FAMILIES = (1, 16)  # AF_UNIX, AF_NETLINK
_INET_FAMILIES = (2, 10)  # AF_INET, AF_INET6
_AF_INET = 2
_SOCK_TYPE_MASK, _SOCK_PACKET = 0xF, 10  # with AF_INET, the old name of AF_PACKET
# CLONE_NEW: NS, CGROUP, UTS, IPC, USER, PID, NET
_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_TIME_NAMESPACE = 0x80  # CLONE_NEWTIME, which clone takes for a signal's number
_IS_INIT = 0xFFFFFFFF, 1

RULES = (
    Rule(REFUSE, ("chmod", "fchmod", "creat", "mkdir", "mknod"), (HasBit(1, _SET_ID_BITS),)),
    Rule(REFUSE, ("fchmodat", "fchmodat2", "mkdirat", "mknodat"), (HasBit(2, _SET_ID_BITS),)),
    Rule(REFUSE, ("open",), (HasBit(1, _CREATES), HasBit(2, _SET_ID_BITS))),
    Rule(REFUSE, ("openat",), (HasBit(2, _CREATES), HasBit(3, _SET_ID_BITS))),
    Rule(REFUSE_FAMILY, ("socket", "socketpair"), (NotIn(0, _LOCAL_FAMILIES + _INET_FAMILIES),)),
    Rule(REFUSE_FAMILY, ("socket",), (IsMasked(0, 0xFFFFFFFF, _AF_INET), IsMasked(1, _SOCK_TYPE_MASK, _SOCK_PACKET))),
    Rule(REFUSE, ("clone",), (HasBit(0, _NAMESPACES),)),
    Rule(REFUSE, ("unshare",), (HasBit(0, _NAMESPACES | _TIME_NAMESPACE),)),
    Rule(REFUSE, ("setns", "mount", "umount2", "pivot_root")),
    # Their flags and modes are in memory, where a filter can't look: programs use the older calls instead.
    Rule(UNKNOWN, ("clone3", "openat2")),
    Rule(
        UNKNOWN,
        ("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "open_tree_attr"),
    ),
    Rule(UNKNOWN, ("io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd")),
    Rule(UNKNOWN, ("add_key", "request_key", "keyctl", "bpf", "perf_event_open")),
    # Whoever has the same user may slow a process down: init would be late to see that its host is gone.
    Rule(
        REFUSE,
        ("sched_setparam", "sched_setscheduler", "sched_setattr", "sched_setaffinity", "prlimit64"),
        (IsMasked(0, *_IS_INIT),),
    ),
    Rule(REFUSE, ("setpriority", "ioprio_set"), (IsMasked(1, *_IS_INIT),)),
)


NO_INET_RULES = (Rule(REFUSE_FAMILY, ("socket", "socketpair"), (NotIn(0, _LOCAL_FAMILIES),)), *RULES)
"""For sandboxes that share a network with others."""


def install(*, with_inet: bool = True) -> None:
    """Filters this process and all that it starts from here on; can't be undone. The caller has set `no_new_privs`.

    OSError when there is no filter for this machine, or the kernel refuses it.
    """
    machine = MACHINES.get(os.uname().machine)
    if machine is None:
        raise OSError(errno.ENOSYS, f"there is no system call filter for {os.uname().machine}")
    program = assemble(machine, RULES if with_inet else NO_INET_RULES)
    instructions = ctypes.create_string_buffer(program, len(program))
    process.filter_system_calls(instructions, len(program) // INSTRUCTION.size)


def assemble(machine: Machine, rules: Sequence[Rule] = RULES) -> bytes:
    """The program: `struct sock_filter` after `struct sock_filter`."""
    program = _Assembler()
    program.load(_ARCH)
    program.jump(_EQUAL, machine.audit_arch, otherwise="foreign")
    program.load(_NUMBER)
    if machine is MACHINES["x86_64"]:
        program.jump(_ANY_BIT, X32_BIT, otherwise="native")
        program.answer(UNKNOWN)
    program.jump(_ALWAYS, 0, then="native")
    program.mark("foreign")
    program.answer(KILL_PROCESS)  # 32-bit programs
    program.mark("native")
    for index, rule in enumerate(rules):
        _add_rule(program, machine, rule, f"after rule {index}")
    program.answer(ALLOW)
    return program.to_bytes()


def _add_rule(program: _Assembler, machine: Machine, rule: Rule, after: str) -> None:
    numbers = [number for call in rule.calls if (number := machine.number_of(call)) is not None]
    matched = f"{after}: matched"
    program.load(_NUMBER)
    for number in numbers:
        program.jump(_EQUAL, number, then=matched)
    program.jump(_ALWAYS, 0, then=after)
    program.mark(matched)
    for condition in rule.conditions:
        program.load(_FIRST_ARGUMENT + 8 * condition.argument)
        match condition:
            case HasBit(bits=bits):
                program.jump(_ANY_BIT, bits, otherwise=after)
            case NotIn(values=values):
                for value in values:
                    program.jump(_EQUAL, value, then=after)
            case IsMasked(mask=mask, value=value):
                program.mask(mask)
                program.jump(_EQUAL, value, otherwise=after)
    program.answer(rule.action)
    program.mark(after)


INSTRUCTION = struct.Struct("HBBI")
"""`struct sock_filter`: code, distance if true, distance if false, operand."""

# Offsets in `struct seccomp_data`; both machines are little-endian, so an argument begins with its lower half.
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
# BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_RET|BPF_K
LOAD, AND, RETURN = 0x20, 0x54, 0x06
# BPF_JMP with BPF_JA, BPF_JEQ and BPF_JSET, all |BPF_K
_ALWAYS, _EQUAL, _ANY_BIT = 0x05, 0x15, 0x45


class _Assembler:
    """Instructions whose jumps name the place to go on at, which is always further down."""

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, str | None, str | None]] = []
        self._places: dict[str, int] = {}

    def load(self, offset: int) -> None:
        """Takes 32 bits of `struct seccomp_data` into the accumulator."""
        self._instructions.append((LOAD, offset, None, None))

    def mask(self, bits: int) -> None:
        """Keeps these bits of the accumulator."""
        self._instructions.append((AND, bits, None, None))

    def jump(self, test: int, operand: int, then: str | None = None, otherwise: str | None = None) -> None:
        """Goes on at a place, or below where None is given."""
        self._instructions.append((test, operand, then, otherwise))

    def answer(self, action: int) -> None:
        """Ends the program."""
        self._instructions.append((RETURN, action, None, None))

    def mark(self, place: str) -> None:
        """Gives a name to what comes next."""
        self._places[place] = len(self._instructions)

    def to_bytes(self) -> bytes:
        return b"".join(self._encode(index, *parts) for index, parts in enumerate(self._instructions))

    def _encode(self, index: int, code: int, operand: int, then: str | None, otherwise: str | None) -> bytes:
        distances = [0 if place is None else self._places[place] - index - 1 for place in (then, otherwise)]
        if code == _ALWAYS:  # the distance is its operand
            return INSTRUCTION.pack(code, 0, 0, distances[0])
        return INSTRUCTION.pack(code, *distances, operand)
