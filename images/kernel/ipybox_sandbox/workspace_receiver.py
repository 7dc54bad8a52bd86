"""How a copied workspace takes what changed on the host. See `workspace_copy`."""

from __future__ import annotations

import json
import os
import secrets
import stat
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

MAX_LINE_BYTES = 64 * 1024


class Signature(NamedTuple):
    """What tells one state of a path from another. Of directories only the kind counts."""

    kind: int
    mode: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0

    @classmethod
    def of(cls, info: os.stat_result) -> Signature:
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            return cls(kind)
        return cls(kind, stat.S_IMODE(info.st_mode), info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


class Receiver:
    """Applies a stream of entries as it comes. A path that changed here in the meantime is refused, not overwritten."""

    def __init__(self, root: str, agreed: dict[str, Signature]) -> None:
        self.refused: list[str] = []
        self._root = root
        self._agreed = agreed
        self._head = bytearray()
        self._entry: dict[str, Any] = {}
        self._file: BinaryIO | None = None
        self._temporary = ""
        self._missing = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        start = 0
        while start < len(data):
            if self._missing > 0:
                start += self._feed_file(data[start : start + self._missing])
                continue
            end = data.find(b"\n", start)
            self._head += data[start : end if end >= 0 else None]
            if len(self._head) > MAX_LINE_BYTES:
                raise ValueError("a line is too long")
            if end < 0:
                return
            start = end + 1
            entry, self._head = json.loads(self._head), bytearray()
            self._begin(entry)

    def close(self) -> None:
        """Remove what is half there."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._temporary:
            with suppress(OSError):
                os.unlink(self._temporary)
            self._temporary = ""

    def _begin(self, entry: dict[str, Any]) -> None:
        self._entry = entry
        place = os.path.join(self._root, entry["path"])
        try:
            if entry["type"] == "gone":
                self._remove(place)
                return
            os.makedirs(place if entry["type"] == "directory" else os.path.dirname(place), exist_ok=True)
            if entry["type"] == "directory":
                self._agreed[entry["path"]] = Signature(stat.S_IFDIR)
                return
            self._temporary = os.path.join(os.path.dirname(place), f".ipybox-{secrets.token_hex(8)}.tmp")
            if entry["type"] == "link":
                os.symlink(entry["target"], self._temporary)
                self._finish()
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._temporary, flags, 0o600), "wb")
        except OSError:
            self._refuse()
        if entry["type"] == "file":
            self._missing = entry["size"]
            if self._missing == 0:
                self._finish()

    def _feed_file(self, block: bytes) -> int:
        self._missing -= len(block)
        try:
            if self._file is not None:
                self._file.write(block)
        except OSError:
            self._refuse()
        if self._missing == 0:
            self._finish()
        return len(block)

    def _finish(self) -> None:
        path = self._entry["path"]
        place = os.path.join(self._root, path)
        try:
            if not self._temporary or not self._is_as_agreed(place):
                self._refuse()
                return
            if self._file is not None:
                self._file.flush()
                os.fchmod(self._file.fileno(), self._entry["mode"])
                os.utime(self._file.fileno(), ns=(self._entry["mtimeMs"] * 1_000_000,) * 2)
            os.replace(self._temporary, place)
            self._temporary = ""
            self._agreed[path] = Signature.of(os.lstat(place))
        except OSError:
            self._refuse()
        finally:
            self.close()

    def _remove(self, place: str) -> None:
        if not self._is_as_agreed(place):
            self._refuse()
            return
        known = self._agreed.pop(self._entry["path"], None)
        if known is not None and known.kind == stat.S_IFDIR:
            with suppress(OSError):  # something was made in it: the host hears of that
                os.rmdir(place)
        elif known is not None:
            os.unlink(place)

    def _is_as_agreed(self, place: str) -> bool:
        try:
            here: Signature | None = Signature.of(os.lstat(place))
        except FileNotFoundError:
            here = None
        return here == self._agreed.get(self._entry["path"])

    def _refuse(self) -> None:
        self.close()
        if self._entry["path"] not in self.refused[-1:]:
            self.refused.append(self._entry["path"])
