"""Moving and removing without following links."""

from __future__ import annotations

import os
import shutil
import subprocess
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
    # By programs, because Python goes down a tree by recursion, and only so far.
    script = 'rm -rf -- "$0" || { chmod -R u+rwX -- "$0"; rm -rf -- "$0"; }'
    silence = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["/bin/sh", "-c", script, str(path)], check=False, **silence)
