"""`%pip` in cells: installs through the bridge, since the sandbox itself has no network."""

from __future__ import annotations

import shlex
from importlib import metadata
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class

from ipybox_sandbox import bridge
from ipybox_sandbox.toolerrors import InstallError

_HELP = (
    "usage: %pip install REQUIREMENT... | %pip list | %pip freeze | %pip show NAME...\n"
    "Packages are installed for this workspace, by the host: pip's options don't apply."
)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by IPython: replaces its own `%pip`."""
    shell.register_magics(SandboxMagics)


@magics_class
class SandboxMagics(Magics):
    """Magics that go through the bridge."""

    @line_magic
    def pip(self, line: str) -> None:
        """Install packages for this workspace, or show what is installed."""
        _pip(line)


def _pip(line: str) -> None:
    try:
        command, *arguments = shlex.split(line, comments=True) or ["help"]
    except ValueError as error:
        raise UsageError(f"%pip: {error}") from None
    if command == "install":
        _install(arguments)
    elif command in ("list", "freeze"):
        _list("{}=={}" if command == "freeze" else "{} {}")
    elif command == "show":
        _show(arguments)
    elif command in ("help", "--help", "-h"):
        print(_HELP)
    else:
        raise UsageError(f"%pip {command} is not available in this sandbox.\n{_HELP}")


def _install(requirements: list[str]) -> None:
    options = [argument for argument in requirements if argument.startswith("-")]
    if options:
        # `-q` and `-U` are habits that change nothing here; others would be silently wrong.
        refused = [option for option in options if option not in ("-q", "--quiet", "-U", "--upgrade")]
        if refused:
            raise UsageError(f"%pip install takes no options here: {' '.join(refused)}\n{_HELP}")
        requirements = [argument for argument in requirements if argument not in options]
    if not requirements:
        raise UsageError(f"%pip install: no requirement given\n{_HELP}")
    for requirement in requirements:
        try:
            print(bridge.install(requirement))
        except InstallError as error:
            raise UsageError(str(error)) from None


def _list(form: str) -> None:
    found = {str(name): item.version for item in metadata.distributions() if (name := _name(item)) is not None}
    for name in sorted(found, key=str.lower):
        print(form.format(name, found[name]))


def _name(distribution: metadata.Distribution) -> Any:
    return distribution.metadata["Name"] if distribution.metadata else None


def _show(names: list[str]) -> None:
    if not names:
        raise UsageError(f"%pip show: no name given\n{_HELP}")
    for name in names:
        try:
            about = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            raise UsageError(f"%pip show: {name} is not installed") from None
        for key in ("Name", "Version", "Summary", "Home-page", "License"):
            if about[key]:
                print(f"{key}: {about[key]}")
        print(f"Requires: {', '.join(metadata.requires(name) or [])}")
