"""Generations of the package volume: `gen-<n>`, and `current`, a link to the newest complete one."""

from __future__ import annotations

import os
import re
import shutil
from importlib import metadata
from pathlib import Path

from ipybox_sandbox.installer.files import remove, remove_foreign
from ipybox_sandbox.installer.task import PYTHON_DIRECTORY
from ipybox_sandbox.installer.view import distributions
from ipybox_sandbox.paths import STAGING_PREFIX


def current_generation(volume: Path) -> Path | None:
    """Return the generation that `current` names, if there is one."""
    try:
        name = os.readlink(volume / "current")
    except OSError:
        return None
    return volume / name if generation_number(name) and (volume / name).is_dir() else None


def generation_number(name: str) -> int:
    """Return n of `gen-<n>`, 0 for other names."""
    match = re.fullmatch(r"gen-([1-9][0-9]{0,8})", name)
    return int(match[1]) if match else 0


def new_generation(staging: Path, current: Path | None) -> Path:
    """Make a generation in staging that shares the current one's files."""
    number = generation_number(current.name) + 1 if current else 1
    generation = staging / f"gen-{number}"
    if current:
        # Nothing ever writes into a file of a generation: a change is a new file renamed over the link.
        shutil.copytree(current, generation, symlinks=True, copy_function=os.link)
    else:
        generation.mkdir()
    return generation


def remove_distribution(generation: Path, name: str) -> None:
    """Remove the files of an earlier version, and directories that become empty."""
    entry = distributions(generation).get(name)
    if entry is None:
        return
    directory = generation / entry.directory
    parents = set()
    for recorded in metadata.PathDistribution(directory).files or []:
        path = in_generation(generation, str(recorded))
        if path is not None and (path.is_symlink() or path.is_file()):
            path.unlink()
            cache = path.parent / "__pycache__"
            for compiled in cache.glob(f"{path.stem}.*.pyc") if path.suffix == ".py" else ():
                compiled.unlink()
            parents |= {cache, *path.parents}
    shutil.rmtree(directory, ignore_errors=True)
    for parent in sorted(parents, key=lambda path: len(path.parts), reverse=True):
        if parent.is_relative_to(generation) and parent != generation and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def in_generation(generation: Path, recorded: str) -> Path | None:
    """Map a path of a RECORD, relative to site-packages, to its place; None for one that leads outside."""
    relative = os.path.normpath(os.path.join("lib", PYTHON_DIRECTORY, "site-packages", recorded))
    if os.path.isabs(recorded) or relative.startswith(".."):
        return None
    inside = os.path.relpath(relative, os.path.join("lib", PYTHON_DIRECTORY, "site-packages"))
    return generation / (relative if inside.startswith("..") else inside)


def switch(volume: Path, generation: Path) -> None:
    """Make `generation` the current one, in one step."""
    target = volume / generation.name
    remove(target)  # of an install that was killed between the two renames below
    generation.rename(target)
    link = generation.parent / "current"
    link.symlink_to(generation.name)
    link.replace(volume / "current")


def collect_garbage(volume: Path) -> None:
    """Remove what killed installs left, and generations older than the previous one. Callers hold the host's lock."""
    current = current_generation(volume)
    newest = generation_number(current.name) if current else 0
    for path in list(volume.iterdir()):
        number = generation_number(path.name)
        if path.name.startswith(STAGING_PREFIX) or (number and not newest - 1 <= number <= newest):
            remove_foreign(path)
