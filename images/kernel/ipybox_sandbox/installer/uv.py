"""uv, run against the host's index proxy, and what its refusals mean."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from ipybox_sandbox.forwarder import start_forwarder
from ipybox_sandbox.installer.task import BuildNeededError, InstallError, Paths, Request
from ipybox_sandbox.installer.view import Installed, View, distributions

SOURCE_IGNORE = shutil.ignore_patterns(".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", ".ipybox")
CA_LIMIT_BYTES = 16 * 1024 * 1024
NEEDS_BUILD = re.compile(r"/source-only/|is disabled|--no-build")
"""The address of what the host's index offers in the place of a wheel that a version has not, and words of uv's."""


def run_uv(request: Request, paths: Paths, staging: Path, view: View) -> None:
    """Let uv install into the view; its words go to stdout as they come.

    Raises BuildNeededError instead where nothing may be built in this step, but in another.
    """
    only_wheels = request.step == "wheels"
    base = f"http://127.0.0.1:{start_forwarder(paths.egress_address)}"
    constraints = staging / "constraints.txt"
    image = distributions(paths.image_site)
    constraints.write_text("".join(f"{entry.name}=={entry.version}\n" for entry in image.values()))
    requirement = stage_source(request.requirement, staging) if request.local else request.requirement
    command = [
        *(paths.uv, "pip", "install", "--python", str(view.prefix / "bin" / "python")),
        *("--no-config", "--no-progress", "--color", "never", "--link-mode", "hardlink"),
        *("--cache-dir", str(staging / "cache"), "--constraints", str(constraints)),
        *(("--no-build",) if only_wheels else ()),
        *("--default-index", f"{base}/index/0/simple/"),
        *(word for n in range(1, request.indexes) for word in ("--index", f"{base}/index/{n}/simple/")),
        *("--", requirement),
    ]
    environment = uv_environment(base, staging, with_hosts=request.hosts)
    said: list[str] = []
    complaint: list[str] = []
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            del said[:-2000]
            if line.startswith("Using Python "):
                continue
            # Addresses and directories of this container mean nothing to the user.
            shown = line.rstrip("\n").replace(base, "").replace(f"{staging}/", "")
            if only_wheels and (complaint or line.startswith("error")):
                complaint.append(shown)
            else:
                print(shown, flush=True)
    if process.returncode == 0:
        return
    if only_wheels and request.builds and NEEDS_BUILD.search("".join(said)):
        raise BuildNeededError
    if complaint:
        print("\n".join(complaint), flush=True)
    conflict = image_conflict("".join(said), image)
    raise InstallError(conflict or f"uv ended with code {process.returncode}; nothing was changed.")


def uv_environment(base: str, staging: Path, *, with_hosts: bool) -> dict[str, str]:
    """Return the whole environment of uv and of what it builds."""
    temporary = staging / "tmp"
    temporary.mkdir()
    environment = {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    if with_hosts:
        bundle = staging / "ca.pem"
        with closing(HTTPConnection(base.removeprefix("http://"), timeout=30)) as connection:
            connection.request("GET", "/ca.pem")
            answer = connection.getresponse()
            if answer.status != 200:
                raise InstallError(f"The host's certificates could not be had: {answer.status} {answer.reason}")
            bundle.write_bytes(answer.read(CA_LIMIT_BYTES))
        environment |= {"HTTPS_PROXY": base, "SSL_CERT_FILE": str(bundle), "GIT_SSL_CAINFO": str(bundle)}
    return environment


def stage_source(path: str, staging: Path) -> str:
    """Copy a directory of the read-only workspace to where its build backend can write; leave archives in place."""
    source = Path(path)
    if not source.exists():
        raise InstallError(f"{path} does not exist in the workspace, or is hidden from the sandbox.")
    if not source.is_dir():
        if not source.is_file():  # a FIFO would be waited for without end
            raise InstallError(f"{path} is no file and no directory.")
        return str(source.resolve())
    copy = staging / "source" / (source.resolve().name or "source")
    try:
        shutil.copytree(source, copy, symlinks=True, ignore=SOURCE_IGNORE)
    except (OSError, shutil.Error) as error:
        raise InstallError(f"{path} could not be read: {error}") from error
    return str(copy)


def image_conflict(said: str, image: dict[str, Installed]) -> str | None:
    """Explain a failed resolution in which versions of the image take part."""
    if "unsatisfiable" not in said and "cannot be used" not in said and "conflict" not in said.lower():
        return None
    text = re.sub(r"\s+", " ", said)  # with names as they are compared
    named = [
        entry for name, entry in image.items() if re.search(rf"\b{re.escape(name)}=={re.escape(entry.version)}", text)
    ]
    return image_conflict_message(named) if named else None


def image_conflict_message(entries: list[Installed]) -> str:
    """Name what can't be replaced, and the way to have it otherwise."""
    names = ", ".join(f"{entry.name} {entry.version}" for entry in entries)
    return (
        f"Conflict with the kernel image, whose own packages can't be replaced: {names}. "
        "Other versions can be baked into the image: ipybox build --requirements FILE"
    )


def refuse_image_changes(changed: dict[str, Installed], image_site: Path) -> None:
    """A URL requirement may name a distribution of the image even at its own version."""
    image = distributions(image_site)
    clashes = [image[name] for name in changed if name in image]
    if clashes:
        raise InstallError(image_conflict_message(clashes))
