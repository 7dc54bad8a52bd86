"""Moving and removing without following links."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


def move(source: Path, target: Path) -> None:
    """Rename `source` to `target`, merging directories; a file that is there is replaced, not written into."""
    if source.is_dir() and not source.is_symlink():
        if target.is_symlink() or not target.is_dir():
            remove(target)
            target.mkdir(parents=True)
        for path in list(source.iterdir()):
            move(path, target / path.name)
        return
    if target.is_dir() and not target.is_symlink():
        remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def remove(path: Path) -> None:
    """Remove a file, link or directory tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_foreign(path: Path) -> None:
    """Remove a tree that foreign code made, directories that it locked included; what can't be removed stays."""
    for directory, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(directory, name)
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(path, ignore_errors=True)
