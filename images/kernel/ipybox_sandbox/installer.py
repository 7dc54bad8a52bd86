"""Installs one requirement into the workspace's package volume, as a transaction.

Runs in a container of its own: no network, the workspace read-only, the volume writable, the host's index proxy behind
`egress.sock`. The volume holds generations (`gen-<n>`) and a link `current` to the newest complete one:

1. a *view* is made beside them, a virtual environment that holds the metadata of everything installed (the image's
   distributions and the current generation's), so that uv resolves as if all of it were in one place;
2. uv installs into the view, the image's distributions being constraints, so only what is missing arrives there;
3. what arrived is cleaned, compiled and merged into a copy of the current generation, made of hard links;
4. `current` is switched by rename. Until then the volume is as it was, whatever ends this process.

The previous generation stays, because running kernels may still import from it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from ipybox_sandbox.forwarder import start_forwarder

VOLUME = Path("/opt/ipybox/packages")
EGRESS_SOCKET = "/run/ipybox/egress.sock"
STAGING_PREFIX = ".staging-"
PYTHON_DIRECTORY = f"python{sys.version_info.major}.{sys.version_info.minor}"
CUSTOMIZE_MODULES = ("sitecustomize.py", "usercustomize.py")
SOURCE_IGNORE = shutil.ignore_patterns(".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", ".ipybox")
SCRIPT_PATH = f"\nimport sys; sys.path.append({str(VOLUME / 'current')!r})\n".encode()
CA_LIMIT_BYTES = 16 * 1024 * 1024


class InstallError(Exception):
    """The installation failed for a reason that the user can read."""


@dataclass(frozen=True)
class Request:
    """What the host asks for; it has checked the requirement already."""

    requirement: str
    """As uv takes it: a PEP 508 requirement, or with `local` a path."""
    local: bool
    """The requirement is a wheel, source archive or directory in the workspace."""
    indexes: int
    """How many indexes the proxy offers; the first is the default one."""
    hosts: bool
    """The proxy also admits the host of the requirement's URL."""

    @staticmethod
    def parse(text: str) -> Request:
        """Read the task's argument."""
        value = json.loads(text)
        return Request(
            requirement=str(value["requirement"]),
            local=bool(value["local"]),
            indexes=int(value["indexes"]),
            hosts=bool(value["hosts"]),
        )


@dataclass(frozen=True)
class Paths:
    """Where things are; other places than the image's are for tests."""

    volume: Path = VOLUME
    egress_socket: str = EGRESS_SOCKET
    uv: str = field(default_factory=lambda: str(Path(sys.prefix) / "bin" / "uv"))
    image_site: Path = field(
        default_factory=lambda: Path(sys.prefix) / "lib" / PYTHON_DIRECTORY / "site-packages",
    )


def main(arguments: list[str]) -> int:
    """Run the task; its one argument is a JSON object, see Request."""
    try:
        install(Request.parse(arguments[0]), Paths())
    except InstallError as error:
        print(error, flush=True)
        return 1
    return 0


def install(request: Request, paths: Paths) -> None:
    """Install into a new generation and switch to it; on any error the volume stays as it was."""
    collect_garbage(paths.volume)
    staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=paths.volume))
    try:
        current = current_generation(paths.volume)
        view = make_view(staging / "view", [paths.image_site, *([current] if current else [])])
        before = distribution_stamps(view.site)
        run_uv(request, paths, staging, view)
        after = distribution_stamps(view.site)
        changed = {name: entry for name, entry in after.items() if before.get(name) != entry}
        refuse_image_changes(changed, paths.image_site)
        if not changed:
            print("Nothing to do: it is installed already.", flush=True)
            return
        clean(view.site, changed, paths.image_site)
        compile_bytecode(view.site)
        generation = new_generation(staging, current)
        for name in changed:
            remove_distribution(generation, name)
        merge(view, {entry.directory for entry in changed.values()}, generation)
        switch(paths.volume, generation)
        print("Installed " + ", ".join(f"{entry.name} {entry.version}" for entry in changed.values()), flush=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    collect_garbage(paths.volume)


# --- the view


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


# --- uv


def run_uv(request: Request, paths: Paths, staging: Path, view: View) -> None:
    """Let uv install into the view; its words go to stdout as they come."""
    base = f"http://127.0.0.1:{start_forwarder(paths.egress_socket)}"
    constraints = staging / "constraints.txt"
    image = distribution_stamps(paths.image_site)
    constraints.write_text("".join(f"{entry.name}=={entry.version}\n" for entry in image.values()))
    requirement = stage_source(request.requirement, staging) if request.local else request.requirement
    command = [
        *(paths.uv, "pip", "install", "--python", str(view.prefix / "bin" / "python")),
        *("--no-config", "--no-progress", "--color", "never", "--link-mode", "hardlink"),
        *("--cache-dir", str(staging / "cache"), "--constraints", str(constraints)),
        *("--default-index", f"{base}/index/0/simple/"),
        *(word for n in range(1, request.indexes) for word in ("--index", f"{base}/index/{n}/simple/")),
        *("--", requirement),
    ]
    environment = uv_environment(base, staging, with_hosts=request.hosts)
    said: list[str] = []
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
            if not line.startswith("Using Python "):
                # Addresses and directories of this container mean nothing to the user.
                print(line.rstrip("\n").replace(base, "").replace(f"{staging}/", ""), flush=True)
    if process.returncode == 0:
        return
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
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{base}/ca.pem", timeout=30) as answer:
            bundle.write_bytes(answer.read(CA_LIMIT_BYTES))
        environment |= {"HTTPS_PROXY": base, "SSL_CERT_FILE": str(bundle), "GIT_SSL_CAINFO": str(bundle)}
    return environment


def stage_source(path: str, staging: Path) -> str:
    """Copy a directory of the read-only workspace to where its build backend can write; leave archives in place."""
    source = Path(path)
    if not source.exists():
        raise InstallError(f"{path} does not exist in the workspace, or is hidden from the sandbox.")
    if not source.is_dir():
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
    text = re.sub(r"\s+", " ", said)
    named = [
        entry for entry in image.values() if re.search(rf"\b{re.escape(entry.name)}=={re.escape(entry.version)}", text)
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
    image = distribution_stamps(image_site)
    clashes = [image[name] for name in changed if name in image]
    if clashes:
        raise InstallError(image_conflict_message(clashes))


# --- what arrived


def clean(site: Path, changed: dict[str, Installed], image_site: Path) -> None:
    """Remove what would run at interpreter start, and modules that the image has itself."""
    arrived = {entry.directory for entry in changed.values()}
    for path in sorted(site.iterdir()):
        if path.suffix == ".dist-info":
            if path.name not in arrived:
                shutil.rmtree(path)
        elif path.suffix == ".pth" or path.name in CUSTOMIZE_MODULES or shadows_image(path, image_site):
            print(f"Left out: {path.name}", flush=True)
            remove(path)


def shadows_image(path: Path, image_site: Path) -> bool:
    """Whether the image has a module of that name; directories without `__init__.py` are shared namespaces."""
    name = path.name.split(".")[0]
    if path.is_dir() and path.suffix == "":
        return (image_site / name / "__init__.py").exists() or (image_site / f"{name}.py").exists()
    is_module = path.suffix in (".py", ".so") and not path.is_dir()
    return is_module and ((image_site / path.name).exists() or (image_site / name / "__init__.py").exists())


def compile_bytecode(site: Path) -> None:
    """Compile what arrived; sources that do not compile (templates, tests) are no failure."""
    # Without site (-S): nothing that was just installed runs here.
    command = [sys.executable, "-I", "-S", "-m", "compileall", "-q", "-q", "-j", "2", str(site)]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# --- generations


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
    entry = distribution_stamps(generation).get(name)
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


def merge(view: View, arrived: set[str], generation: Path) -> None:
    """Move everything that arrived into the generation; scripts and data keep their places below its root."""
    for path in sorted(view.site.iterdir()):
        if path.suffix != ".dist-info" or path.name in arrived:
            move(path, generation / path.name)
    own = {"lib", "lib64", "include", "pyvenv.cfg"}
    for path in sorted(view.prefix.iterdir()):
        if path.name == "bin":
            move_scripts(path, generation / "bin", view)
        elif path.name not in own and not path.name.startswith("."):
            move(path, generation / path.name)
    for path in sorted((view.prefix / "lib").iterdir()):
        if path.name != PYTHON_DIRECTORY:
            move(path, generation / "lib" / path.name)


def move_scripts(source: Path, target: Path, view: View) -> None:
    """Move the scripts that packages brought; they run with the image's interpreter and find the volume's packages."""
    for path in sorted(source.iterdir()):
        if (
            path.is_symlink()
            or not path.is_file()
            or path.name.lower().startswith(("activate", "deactivate", "python"))
        ):
            continue
        content = path.read_bytes()
        view_bin = os.fsencode(view.prefix / "bin")
        if content.startswith(b"#!" + view_bin):
            shebang, _, rest = content.partition(b"\n")
            mode = path.stat().st_mode & 0o777
            path.unlink()  # it may be a hard link into uv's cache
            path.write_bytes(shebang.replace(view_bin, os.fsencode(Path(sys.prefix) / "bin")) + SCRIPT_PATH + rest)
            path.chmod(mode)
        move(path, target / path.name)


def move(source: Path, target: Path) -> None:
    """Rename `source` to `target`, merging directories; a file that is there is replaced, not written into."""
    if source.is_dir() and not source.is_symlink():
        if target.is_symlink() or not target.is_dir():
            remove(target)
            target.mkdir(parents=True)
        for path in list(source.iterdir()):
            move(path, target / path.name)
        return
    if target.is_dir() and not target.is_symlink():
        remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def remove(path: Path) -> None:
    """Remove a file, link or directory tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
