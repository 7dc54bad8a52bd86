"""What one installation is asked for, where it happens, and how it says that it failed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

PYTHON_DIRECTORY = f"python{sys.version_info.major}.{sys.version_info.minor}"


class InstallError(Exception):
    """The installation failed for a reason that the user can read."""


@dataclass(frozen=True)
class Request:
    """What the host asks for; it has checked the requirement already."""

    requirement: str
    """As uv takes it: a PEP 508 requirement, or with `local` a path from the workspace, the working directory."""
    local: bool
    """The requirement is a wheel, source archive or directory in the workspace."""
    indexes: int
    """How many indexes the proxy offers; the first is the default one."""
    hosts: bool
    """The proxy also admits the host of the requirement's URL."""
    builds: bool
    """Packages may be built from source, which runs code of theirs."""

    @staticmethod
    def parse(text: str) -> Request:
        """Read the task's argument."""
        value = json.loads(text)
        return Request(
            requirement=str(value["requirement"]),
            local=bool(value["local"]),
            indexes=int(value["indexes"]),
            hosts=bool(value["hosts"]),
            builds=bool(value["builds"]),
        )


@dataclass(frozen=True)
class Paths:
    """Where things are."""

    volume: Path
    staging: Path
    """Where the installation is made, in the volume, so that all of it can be linked and renamed to its place."""
    egress_address: str
    uv: str = field(default_factory=lambda: str(Path(sys.prefix) / "bin" / "uv"))
    image_site: Path = field(
        default_factory=lambda: Path(sys.prefix) / "lib" / PYTHON_DIRECTORY / "site-packages",
    )
