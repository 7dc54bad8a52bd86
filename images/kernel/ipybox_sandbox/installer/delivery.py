"""What a build has left behind, taken over as the work of somebody who means harm."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ipybox_sandbox.installer.task import InstallError

MAX_ENTRIES = 500_000
"""Several times what the largest packages have with all of their dependencies; init watches the disk."""
MAX_DEPTH = 64
COPY_BYTES = 1024 * 1024


def receive(source: Path, target: Path) -> None:
    """Copy directories and plain files, which is all that a wheel can hold: no links, no special files, no set bits.

    Whoever made the source, and could write the directory above it, has ended, so that nothing changes meanwhile.
    """
    if source.is_symlink() or source.parent.is_symlink():
        raise InstallError("What the build left could not be read: it is a link.")
    entries = 0
    pending = [(source, target, 0)]
    try:
        while pending:
            directory, copy, depth = pending.pop()
            if depth > MAX_DEPTH:
                raise InstallError(f"The build left more than {MAX_DEPTH} directories in each other.")
            copy.mkdir(mode=0o755)
            for entry in os.scandir(directory):
                entries += 1
                if entries > MAX_ENTRIES:
                    raise InstallError(f"The build left more than {MAX_ENTRIES} files.")
                if entry.is_dir(follow_symlinks=False):
                    pending.append((directory / entry.name, copy / entry.name, depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    copy_file(directory / entry.name, copy / entry.name)
    except OSError as error:
        raise InstallError(f"What the build left could not be read: {error}") from error


def copy_file(source: Path, target: Path) -> None:
    """Copy a plain file; whether it can be executed is all that is kept of its mode."""
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(reading, "rb") as file:
        status = os.fstat(reading)
        if not stat.S_ISREG(status.st_mode):
            return
        with open(target, "xb", opener=lambda path, flags: os.open(path, flags, 0o644)) as copy:
            while chunk := file.read(COPY_BYTES):
                copy.write(chunk)
        target.chmod(0o755 if status.st_mode & 0o100 else 0o644)
