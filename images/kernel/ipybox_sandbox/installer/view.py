"""The view: a virtual environment with the metadata of everything installed."""

from __future__ import annotations

import re
import shutil
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ipybox_sandbox.installer.task import PYTHON_DIRECTORY


@dataclass(frozen=True)
class View:
    """A virtual environment in the staging directory."""

    prefix: Path
    site: Path


def make_view(prefix: Path, sites: list[Path]) -> View:
    """Make an environment that has the metadata, and nothing else, of all distributions in `sites`."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(prefix)
    view = View(prefix, prefix / "lib" / PYTHON_DIRECTORY / "site-packages")
    for site in sites:
        for directory in site.glob("*.dist-info"):
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
        try:
            status = (directory / "METADATA").stat()
            distribution = metadata.PathDistribution(directory)
            name, version = distribution.metadata["Name"], distribution.version
        except (OSError, KeyError, TypeError):
            continue
        if name and version:
            entry = Installed(name, version, directory.name, (status.st_ino, status.st_ctime_ns))
            found[normalize(name)] = entry
    return found


def normalize(name: str) -> str:
    """Return the name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
