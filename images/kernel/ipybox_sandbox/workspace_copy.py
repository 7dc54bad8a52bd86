"""The sandbox's end of a workspace that is a copy, for engines that don't share the host's file system.

Both directions are streams of entries: a JSON object a line, that of a file followed by its bytes. What either side did
since both agreed is told by what the file system says of each path. See docs/architecture.md, "The copied workspace".
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from ipybox_sandbox.workspace_receiver import Receiver, Signature

BLOCK_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_PATH_CHARS = 2000
# Of a directory that can't be read: another state than one that can, so both changes are told.
_CLOSED = Signature(stat.S_IFDIR, mode=stat.S_ISVTX)


class Limits(NamedTuple):
    """What the host takes in one answer."""

    entries: int
    file_bytes: int
    bytes: int


class WorkspaceCopy:
    """What host and sandbox agree on, and the differences from it. One request at a time.

    Each says whether the host `applied` all of the last answer. What it did not is told once more.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._agreed: dict[str, Signature] = {}
        self._answered: dict[str, Signature] | None = None

    def changes(self, applied: bool, limits: Limits) -> Iterator[bytes]:
        """What was made, changed and removed here, in blocks of some size."""
        self._settle(applied)
        return _in_blocks(self._tell_changes(limits))

    def receive(self, applied: bool) -> Receiver:
        """Take what changed on the host."""
        self._settle(applied)
        return Receiver(self._root, self._agreed)

    def _settle(self, applied: bool) -> None:
        if applied and self._answered is not None:
            self._agreed = self._answered
        self._answered = None

    def _tell_changes(self, limits: Limits) -> Iterator[bytes]:
        found, closed, complete = _look(self._root, limits.entries)
        if complete:
            if closed:
                found |= {path: known for path, known in self._agreed.items() if _is_below(path, closed)}
            for path in sorted(self._agreed, reverse=True):  # what is in a directory comes before it
                if path not in found or found[path].kind != self._agreed[path].kind:
                    yield _line(type="gone", path=path)
        else:
            found = self._agreed | found
        left = limits.bytes
        for path, signature in list(found.items()):
            if signature == self._agreed.get(path):
                continue
            if signature.kind == stat.S_IFDIR:
                yield _line(type="directory", path=path)
                if path in closed:
                    yield _line(type="left", path=path, why="unreadable")
            elif signature.kind == stat.S_IFLNK:
                yield from self._tell_link(path)
            elif signature.kind != stat.S_IFREG:
                yield _line(type="left", path=path, why="special")
            elif signature.size > limits.file_bytes:
                yield _line(type="left", path=path, why="too-large")
            elif signature.size > left:
                yield _line(type="left", path=path, why="later")
                del found[path]  # so it is new, or changed, the next time as well
            else:
                left -= yield from self._tell_file(path, min(left, limits.file_bytes))
        self._answered = found
        yield _line(type="end", complete=complete)

    def _tell_link(self, path: str) -> Iterator[bytes]:
        with suppress(OSError), _Parent(self._root, path) as parent:
            yield _line(type="link", path=path, target=os.readlink(parent.name, dir_fd=parent.descriptor))

    def _tell_file(self, path: str, max_bytes: int) -> Generator[bytes, None, int]:
        """As many bytes as announced, also of a file that shrinks: it has then changed again, and comes once more."""
        try:
            with _Parent(self._root, path) as parent:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(parent.name, flags, dir_fd=parent.descriptor)
        except PermissionError:
            yield _line(type="left", path=path, why="unreadable")
            return 0
        except OSError:
            return 0  # gone in the meantime, or something else by now: the next answer says so
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode) or info.st_size > max_bytes:
                return 0
            mode = stat.S_IMODE(info.st_mode)
            yield _line(type="file", path=path, mode=mode, mtimeMs=info.st_mtime_ns // 1_000_000, size=info.st_size)
            missing = info.st_size
            while missing > 0:
                block = file.read(min(missing, BLOCK_BYTES)) or bytes(min(missing, BLOCK_BYTES))
                missing -= len(block)
                yield block
            return info.st_size


class _Parent:
    """The directory that holds a path, reached without following a link."""

    def __init__(self, root: str, path: str) -> None:
        *self._directories, self.name = path.split("/")
        self._root = root
        self.descriptor = -1

    def __enter__(self) -> _Parent:
        self.descriptor = _open_directory(self._root)
        try:
            for name in self._directories:
                outer, self.descriptor = self.descriptor, _open_directory(name, self.descriptor)
                os.close(outer)
        except OSError:
            os.close(self.descriptor)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def _look(root: str, max_entries: int) -> tuple[dict[str, Signature], set[str], bool]:
    """Every path below the root, directories before what is in them, those that can't be read, whether it is all."""
    found: dict[str, Signature] = {}
    closed: set[str] = set()
    complete = True

    def walk(descriptor: int, prefix: str, depth: int) -> None:
        nonlocal complete
        below: list[str] = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if len(found) >= max_entries:
                    complete = False
                    return
                if len(prefix) + len(entry.name) > MAX_PATH_CHARS:
                    complete = False
                    continue
                try:
                    found[prefix + entry.name] = Signature.of(entry.stat(follow_symlinks=False))
                except OSError:
                    continue  # gone in the meantime
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
        for name in below:
            if depth >= MAX_DEPTH or len(found) >= max_entries:
                complete = False
                return
            try:
                inner = _open_directory(name, descriptor)
            except PermissionError:
                closed.add(prefix + name)
                found[prefix + name] = _CLOSED
                continue
            except OSError:
                continue
            try:
                walk(inner, f"{prefix}{name}/", depth + 1)
            finally:
                os.close(inner)

    top = _open_directory(root)
    try:
        walk(top, "", 0)
    finally:
        os.close(top)
    return found, closed, complete


def _is_below(path: str, directories: set[str]) -> bool:
    return any(path[:end] in directories for end, character in enumerate(path) if character == "/")


def _open_directory(path: str, parent: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _line(**entry: Any) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _in_blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
