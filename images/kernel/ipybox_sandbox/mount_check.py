"""Whether the engine mounted what the host meant.

The host names masked and protected paths of the workspace, and the engine looks them up once more when it mounts them.
In between, code in another sandbox of the same workspace may put a link in the place of a directory. No foreign code
runs here yet, so what the Linux kernel says of the mounts can be believed. An engine on another machine, or outside of
the host's container, may also have a directory of its own at the workspace's path.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Mounts = Mapping[str, Sequence[tuple[str, str]]]
"""By mount point, the lowest first: the device and the path in its file system."""

_SHARING_TYPES = r"9p|drvfs|fakeowner|fuse|osxfs|prl_fs|vboxsf|virtiofs|vmhgfs"


def find_foreign_mount(shields: Iterable[Mapping[str, Any]], mountinfo: str) -> str | None:
    """Return the first path that is not what it should be.

    Each shield names the `place` of a host directory, which paths below it are `bound` onto themselves, and which are
    `masked`.
    """
    mounts = parse_mountinfo(mountinfo)
    is_bound = _is_bound_onto_itself if _shows_sources(mounts) else _is_mounted
    for shield in shields:
        place = shield["place"]
        for path in (os.path.join(place, name) for name in shield["bound"]):
            if not is_bound(path, place, mounts):
                return path
        for path in (os.path.join(place, name) for name in shield["masked"]):
            if path not in mounts:
                return path
    return None


def is_elsewhere(workspace: str, identity: Mapping[str, str], mountinfo: str) -> bool:
    """Whether the engine mounted a directory of its own that happens to have the workspace's path.

    On the host's own Linux kernel device and inode tell. Under another kernel the directory is the host's only if it
    comes through a file system that shares a host's files with a virtual machine (or gVisor's, which hides them).
    """
    if identity["boot"] == _boot_id():
        info = os.stat(workspace)
        return f"{info.st_dev}:{info.st_ino}" != identity["directory"]
    types = [kind for mount_point, kind in _types(mountinfo) if mount_point == workspace]
    return not types or not re.match(_SHARING_TYPES, types[-1])


def parse_mountinfo(text: str) -> Mounts:
    """Read `/proc/self/mountinfo`."""
    mounts: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for line in text.splitlines():
        _, _, device, root, mount_point, *_ = line.split(" ")
        mounts[_unescape(mount_point)].append((device, _unescape(root)))
    return mounts


def _boot_id() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _types(mountinfo: str) -> Iterator[tuple[str, str]]:
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        yield _unescape(before.split(" ")[4]), after.split(" ")[0]


def _shows_sources(mounts: Mounts) -> bool:
    """Not under gVisor: each mount has a device of its own there, and is the root of that; this file is none."""
    return mounts.get("/etc/hosts", [("", "")])[-1][1] != "/"


def _is_mounted(path: str, _place: str, mounts: Mounts) -> bool:
    return path in mounts


def _is_bound_onto_itself(path: str, place: str, mounts: Mounts) -> bool:
    """Whether the mount at `path` shows what the mount around it has there; the latter is checked by itself."""
    *below, found = mounts.get(path) or [("", "")]
    if below:  # a mount of the host that came along with the place
        return found == below[-1]
    around = os.path.dirname(path)
    while around not in mounts and len(around) > len(place):
        around = os.path.dirname(around)
    if around not in mounts:
        return False
    device, root = mounts[around][-1]
    return found == (device, os.path.join(root, os.path.relpath(path, around)))


def _unescape(field: str) -> str:
    r"""Space, tab, newline and backslash are written as `\040` and the like."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
