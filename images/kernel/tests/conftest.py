"""A sandbox without a container: init, gateway, fork server and kernels as plain processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from host import Host, KernelSocket


@dataclass
class Sandbox:
    host: Host
    init: subprocess.Popen[str]
    directory: Path

    @property
    def workspace(self) -> Path:
        return self.directory / "workspace"


@contextmanager
def run_init(
    order: dict[str, Any], prepare: Callable[[Path], None] = lambda _: None, options: Sequence[str] = ()
) -> Iterator[Sandbox]:
    """Starts init with `order`, and with `options` besides its paths; at the end the control connection is closed and
    init must follow.

    `prepare` is given the run directory before that.
    """
    # pytest's own directories are too deep for the names of unix sockets.
    with (
        tempfile.TemporaryDirectory(prefix="ipybox") as directory,
        _run_init_in(Path(directory), order, prepare, options) as sandbox,
    ):
        yield sandbox


@contextmanager
def _run_init_in(
    directory: Path, order: dict[str, Any], prepare: Callable[[Path], None], options: Sequence[str]
) -> Iterator[Sandbox]:
    for name in ("run", "kernels", "workspace", "home", "packages"):
        (directory / name).mkdir(mode=0o700)
    prepare(directory / "run")
    host = Host(directory / "run", {"workspace": str(directory / "workspace"), **order})
    paths = [f"--{name}={directory / name}" for name in ("run", "kernels", "packages")]
    init = subprocess.Popen(
        [sys.executable, "-I", "-m", "ipybox_sandbox.init", *paths, *options],
        env={"PATH": os.environ["PATH"], "HOME": str(directory / "home"), "SECRET": "of the host"},
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        control = host.control.get(timeout=30)
        host.control.put(control)
        yield Sandbox(host, init, directory)
    finally:
        host.end_session()
        host.close()
        init.communicate(timeout=30)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A session for the tests of one file."""
    with run_init({"mode": "session"}) as running:
        yield running


@pytest.fixture(scope="module")
def kernel(sandbox: Sandbox) -> Iterator[KernelSocket]:
    """A kernel for the tests of one file."""
    socket = sandbox.host.connect(sandbox.host.start_kernel())
    yield socket
    socket.close()
