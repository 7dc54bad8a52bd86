"""The view: a virtual environment with the metadata of everything installed."""

from __future__ import annotations

import re
import shutil
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ipybox_sandbox.installer.task import PYTHON_DIRECTORY


@dataclass(frozen=True)
class View:
    """A virtual environment in the staging directory."""

    prefix: Path
    site: Path


def make_view(prefix: Path, image_site: Path, current: Path | None) -> View:
    """Make an environment that has the metadata, and nothing else, of the image's and the current distributions."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(prefix)
    view = View(prefix, prefix / "lib" / PYTHON_DIRECTORY / "site-packages")
    for directory in image_site.glob("*.dist-info"):
        # Links to what uv reads: whole copies of a hundred directories take half a second.
        (view.site / directory.name).mkdir()
        for name in ("METADATA", "RECORD"):
            (view.site / directory.name / name).symlink_to(directory / name)
    for directory in current.glob("*.dist-info") if current else ():
        if not (view.site / directory.name).exists():
            shutil.copytree(directory, view.site / directory.name)
    return view


@dataclass(frozen=True)
class Installed:
    """A distribution in a view; two that differ were installed at different times."""

    name: str
    version: str
    directory: str
    stamp: tuple[int, int]


def distribution_stamps(site: Path) -> dict[str, Installed]:
    """Map normalized names to what is installed under them."""
    found = {}
    for directory in sorted(site.glob("*.dist-info")):
        metadata = directory / "METADATA"
        try:
            # Of the link, in a view: who hard-links the image's file (uv, into another environment) changes that.
            status = metadata.lstat()
            with metadata.open(encoding="utf-8", errors="replace") as file:
                headers = read_headers(file)
        except OSError:
            continue
        name, version = headers.get("name"), headers.get("version")
        if name and version:
            entry = Installed(name, version, directory.name, (status.st_ino, status.st_ctime_ns))
            found[normalize(name)] = entry
    return found


def read_headers(lines: Iterable[str]) -> dict[str, str]:
    """Return the headers of a METADATA file up to name and version: `email` takes 20 times as long for all of it."""
    headers: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if not colon or {"name", "version"} <= headers.keys():
            break
        headers[key.lower()] = value.strip()
    return headers


def normalize(name: str) -> str:
    """Return the name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
