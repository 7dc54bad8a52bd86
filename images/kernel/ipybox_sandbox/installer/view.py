"""The view: a virtual environment with the metadata of everything installed, as links; files are what arrived."""

from __future__ import annotations

import re
import stat
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
    view = view_at(prefix)
    for directory in image_site.glob("*.dist-info"):
        # Links to what uv reads: whole copies of a hundred directories take half a second.
        (view.site / directory.name).mkdir()
        for name in ("METADATA", "RECORD"):
            (view.site / directory.name / name).symlink_to(directory / name)
    for directory in current.glob("*.dist-info") if current else ():
        if not (view.site / directory.name).exists():
            (view.site / directory.name).mkdir()
            for path in directory.iterdir():
                # Not to directories: uv removes through them what it finds in a record.
                if path.is_file() and not path.is_symlink():
                    (view.site / directory.name / path.name).symlink_to(path)
    return view


def view_at(prefix: Path) -> View:
    """Return the view that is there."""
    return View(prefix, prefix / "lib" / PYTHON_DIRECTORY / "site-packages")


@dataclass(frozen=True)
class Installed:
    """A distribution in a directory of packages."""

    name: str
    version: str
    directory: str


def distributions(site: Path) -> dict[str, Installed]:
    """Map normalized names to what is installed under them; in a view, what arrived."""
    found = {}
    for directory in sorted(site.glob("*.dist-info")):
        metadata = directory / "METADATA"
        try:
            if not stat.S_ISREG(metadata.lstat().st_mode):
                continue
            with metadata.open(encoding="utf-8", errors="replace") as file:
                headers = read_headers(file)
        except OSError:
            continue
        name, version = headers.get("name"), headers.get("version")
        if name and version:
            found[normalize(name)] = Installed(name, version, directory.name)
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
