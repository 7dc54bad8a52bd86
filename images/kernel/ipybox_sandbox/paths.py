"""Where things are inside a sandbox: by default as in the image; engines without a container and tests pass others."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, fields

FONT_CACHE = os.path.join(os.path.dirname(sys.prefix), "matplotlib")
"""matplotlib's font list, made together with the virtual environment, beside which it lies."""

STAGING_PREFIX = ".staging-"
"""Of what is under way in the package volume: init names and removes it; what it could not, the next install does."""

BUILD_NAME = "build"
"""Of what a build makes in its scratch, where another task finds it; all of it goes with the scratch."""


@dataclass(frozen=True)
class Paths:
    """The directories of one sandbox; each is also a command line option of the same name."""

    run: str = "/run/ipybox"
    """The host's sockets."""
    kernels: str = "/run/ipybox-kernels"
    """Connection files and ipc sockets of kernels, and what the host trusts."""
    packages: str = "/opt/ipybox/packages"
    """The workspace's package volume; `current` in it links to the newest generation."""
    scratch: str = "/opt/ipybox/scratch"
    """A task's own, where packages are built; empty in other sandboxes."""
    services: str = ""
    """Addresses of gateway, tools and egress, joined by commas, where they are not sockets in `run`."""

    @property
    def gateway_address(self) -> str:
        return self._address("gateway", 0)

    @property
    def tools_address(self) -> str:
        return self._address("tools", 1)

    @property
    def egress_address(self) -> str:
        """The host's HTTP proxy."""
        return self._address("egress", 2)

    @property
    def on_loopback(self) -> bool:
        """Whether the host's services are ports of the loopback."""
        return self.services.startswith("127.")

    @property
    def ca_bundle(self) -> str:
        """What the host trusts, for programs that go through its proxy."""
        return os.path.join(self.kernels, "ca.pem")

    @property
    def current_packages(self) -> str:
        return os.path.join(self.packages, "current")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        for field in fields(cls):
            parser.add_argument(f"--{field.name}", default=field.default)

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Paths:
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})

    def to_arguments(self) -> list[str]:
        """The options that give these paths to another program of the sandbox."""
        return [f"--{field.name}={getattr(self, field.name)}" for field in fields(self)]

    def _address(self, service: str, number: int) -> str:
        return self.services.split(",")[number] if self.services else os.path.join(self.run, f"{service}.sock")
