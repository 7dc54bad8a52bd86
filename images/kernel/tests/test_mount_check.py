"""The check of mounts before anything foreign runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipybox_sandbox.mount_check import find_foreign_mount, is_elsewhere

LINE = "{id} 20 {device} {root} {point} rw,relatime - ext4 /dev/sda1 rw"
SHIELD = {"place": "/ws", "bound": ["a", "a/b/.git"], "masked": ["a/.env"]}


def mountinfo(**changes: tuple[str, str] | None) -> str:
    """The mounts of a sandbox as they should be, but for `changes`."""
    mounts: dict[str, tuple[str, str] | None] = {
        "/": ("0:50", "/"),
        "/ws": ("8:1", "/home/ann/ws"),
        "/ws/a": ("8:1", "/home/ann/ws/a"),
        "/ws/a/.env": ("8:2", "/run/s/empty"),
        "/ws/a/b/.git": ("8:1", "/home/ann/ws/a/b/.git"),
        **{f"/ws/{name}": mount for name, mount in changes.items()},
    }
    found = [(point, *mount) for point, mount in mounts.items() if mount]
    return "\n".join(
        LINE.format(id=n, device=device, root=root, point=point) for n, (point, device, root) in enumerate(found)
    )


def test_what_is_bound_onto_itself_is_right() -> None:
    assert find_foreign_mount([SHIELD], mountinfo()) is None
    assert find_foreign_mount([], mountinfo()) is None


@pytest.mark.parametrize(
    ("changes", "foreign"),
    [
        ({"a": ("8:1", "/etc")}, "/ws/a"),
        ({"a": ("8:1", "/home/ann/ws/other")}, "/ws/a"),
        ({"a": ("8:3", "/home/ann/ws/a")}, "/ws/a"),
        ({"a": ("8:3", "/"), "a/b/.git": ("8:3", "/b/.git")}, "/ws/a"),
        ({"a": None}, "/ws/a"),
        ({"a/b/.git": ("8:1", "/home/ann/other/.git")}, "/ws/a/b/.git"),
        ({"a/.env": None}, "/ws/a/.env"),
    ],
    ids=["a link out", "a link inside", "another device", "a whole file system", "no mount", "below a pin", "no mask"],
)
def test_anything_else_is_named(changes: dict[str, tuple[str, str] | None], foreign: str) -> None:
    assert find_foreign_mount([SHIELD], mountinfo(**changes)) == foreign


def test_where_mounts_do_not_show_their_source_they_must_at_least_be_there() -> None:
    # gVisor: each mount has a device of its own, and no path in it.
    changes = {name: (f"0:{n}", "/") for n, name in enumerate(["", "a", "a/.env", "a/b/.git"])}
    hosts = LINE.format(id=9, device="0:14", root="/", point="/etc/hosts")
    assert find_foreign_mount([SHIELD], f"{mountinfo(**changes)}\n{hosts}") is None
    assert find_foreign_mount([SHIELD], mountinfo(**changes)) == "/ws/a"
    changes.pop("a/b/.git")
    text = mountinfo(**changes, **{"a/b/.git": None})
    assert find_foreign_mount([SHIELD], f"{text}\n{hosts}") == "/ws/a/b/.git"


def test_a_file_system_of_the_host_inside_the_workspace_is_no_foreign_one() -> None:
    # The whole workspace comes with the mounts inside it: `data` at its own place, and again where it is pinned.
    shield = {"place": "/ws", "bound": ["data", "data/x"], "masked": []}
    lines = [("/ws", "8:1", "/w"), ("/ws/data", "9:1", "/"), ("/ws/data", "9:1", "/"), ("/ws/data/x", "9:1", "/x")]
    text = "\n".join(LINE.format(id=1, device=device, root=root, point=point) for point, device, root in lines)
    assert find_foreign_mount([shield], text) is None
    assert find_foreign_mount([shield], text.replace("9:1 / /ws/data", "9:2 / /ws/data", 1)) == "/ws/data"


def test_names_with_spaces_are_understood() -> None:
    shield = {"place": "/my ws", "bound": ["a b"], "masked": []}
    lines = [(r"/my\040ws", "8:1", r"/my\040ws"), (r"/my\040ws/a\040b", "8:1", r"/my\040ws/a\040b")]
    text = "\n".join(LINE.format(id=1, device=device, root=root, point=point) for point, device, root in lines)
    assert find_foreign_mount([shield], text) is None


def elsewhere(directory: str, kind: str, boot: str = "another") -> bool:
    mounts = mountinfo() + f"\n99 20 0:77 / {directory} rw shared:1 master:2 - {kind} source rw"
    info = os.stat("/usr")
    return is_elsewhere(directory, {"boot": boot, "directory": f"{info.st_dev}:{info.st_ino}"}, mounts)


def test_under_the_same_kernel_a_directory_is_told_by_device_and_inode() -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert not elsewhere("/usr", "ext4", boot)
    assert elsewhere("/", "ext4", boot)


@pytest.mark.parametrize("kind", ["virtiofs", "fakeowner", "fuse.grpcfuse", "9p"])
def test_under_another_kernel_it_is_the_hosts_where_files_are_shared_with_a_virtual_machine(kind: str) -> None:
    assert not elsewhere("/srv/ws", kind)
    assert not elsewhere("/srv/ws", kind, boot="")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "overlay", "tmpfs"])
def test_under_another_kernel_it_is_elsewhere_otherwise(kind: str) -> None:
    assert elsewhere("/srv/ws", kind)
