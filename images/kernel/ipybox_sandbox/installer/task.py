"""What one installation is asked for, where it happens, and how it says that it failed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

Step = Literal["wheels", "build", "commit"]
"""Install from wheels alone; or build into the scratch, which is all that can be written then; or install what such a
build has left there."""

PYTHON_DIRECTORY = f"python{sys.version_info.major}.{sys.version_info.minor}"


MUST_BUILD = 3
"""Exit code of the step `wheels` where something has no wheel."""


class InstallError(Exception):
    """The installation failed for a reason that the user can read."""


class BuildNeededError(Exception):
    """Something has no wheel, and nothing is built in this step."""


@dataclass(frozen=True)
class Request:
    """What the host asks for; it has checked the requirement already."""

    step: Step
    requirement: str
    """As uv takes it: a PEP 508 requirement, or with `local` a path from the workspace, the working directory."""
    local: bool
    """The requirement is a wheel, source archive or directory in the workspace."""
    indexes: int
    """How many indexes the proxy offers; the first is the default one."""
    hosts: bool
    """The proxy also admits the host of the requirement's URL."""
    builds: bool
    """What has no wheel is built by another step; otherwise it is an error."""

    @staticmethod
    def parse(text: str) -> Request:
        """Read the task's argument."""
        value = json.loads(text)
        step = value["step"]
        if step not in get_args(Step):
            raise ValueError(f"not a step: {step!r}")
        return Request(
            step=step,
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
    """Where the installation is made: in the volume, so that all of it can be linked and renamed to its place, or for a
    build in the scratch."""
    delivery: Path
    """Where a build has left its view; hostile."""
    egress_address: str
    uv: str = field(default_factory=lambda: str(Path(sys.prefix) / "bin" / "uv"))
    image_site: Path = field(
        default_factory=lambda: Path(sys.prefix) / "lib" / PYTHON_DIRECTORY / "site-packages",
    )
