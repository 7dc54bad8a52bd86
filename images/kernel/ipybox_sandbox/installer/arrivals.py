"""What uv brought: cleaned, compiled, and merged into a generation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ipybox_sandbox.installer.files import move, remove
from ipybox_sandbox.installer.task import PYTHON_DIRECTORY
from ipybox_sandbox.installer.view import Installed, View

FILES_WORTH_A_SECOND_WORKER = 100
OWN_NAMES = ("bin", "lib", "lib64", "include", "pyvenv.cfg")
"""What a view has itself."""
CUSTOMIZE_MODULES = ("sitecustomize.py", "usercustomize.py")


def clean(view: View, arrived: dict[str, Installed], image_site: Path) -> None:
    """Remove what would run at interpreter start, and modules that the image has itself."""
    directories = {entry.directory for entry in arrived.values()}
    for path in sorted(view.site.iterdir()):
        if path.suffix == ".dist-info":
            if path.name not in directories:
                remove(path)
        elif runs_at_start(path) or shadows_image(path, image_site):
            leave_out(path)
    # Of the data of packages, which get beside their modules.
    for path in sorted(view.prefix.iterdir()):
        if path.name not in OWN_NAMES and (runs_at_start(path) or shadows_image(path, image_site)):
            leave_out(path)


def leave_out(path: Path) -> None:
    """Remove something that arrived, and say so."""
    print(f"Left out: {path.name}", flush=True)
    remove(path)


def runs_at_start(path: Path) -> bool:
    """Whether an interpreter that finds it on its path executes it before anything else."""
    return path.suffix == ".pth" or path.name in CUSTOMIZE_MODULES


def shadows_image(path: Path, image_site: Path) -> bool:
    """Whether the image has a module of that name; directories without `__init__.py` are shared namespaces."""
    name = path.name.split(".")[0]
    if path.is_dir() and path.suffix == "":
        return (image_site / name / "__init__.py").exists() or (image_site / f"{name}.py").exists()
    is_module = path.suffix in (".py", ".so") and not path.is_dir()
    return is_module and ((image_site / path.name).exists() or (image_site / name / "__init__.py").exists())


def compile_bytecode(site: Path) -> None:
    """Compile what arrived; sources that do not compile (templates, tests) are no failure."""
    # Two workers take 0.3 s to start.
    workers = "2" if sum(1 for _ in site.rglob("*.py")) > FILES_WORTH_A_SECOND_WORKER else "1"
    # Without site (-S): nothing that was just installed runs here.
    command = [sys.executable, "-I", "-S", "-m", "compileall", "-q", "-q", "-j", workers, str(site)]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def merge(view: View, arrived: set[str], generation: Path, volume: Path) -> None:
    """Move everything that arrived into the generation of the volume; scripts and data keep their places in it."""
    for path in sorted(view.site.iterdir()):
        if path.suffix != ".dist-info" or path.name in arrived:
            move(path, generation / path.name)
    for path in sorted(view.prefix.iterdir()):
        if path.name == "bin":
            move_scripts(path, generation / "bin", view, volume)
        elif path.name not in OWN_NAMES and not path.name.startswith("."):
            move(path, generation / path.name)
    for path in sorted((view.prefix / "lib").iterdir()):
        if path.name != PYTHON_DIRECTORY:
            move(path, generation / "lib" / path.name)


def move_scripts(source: Path, target: Path, view: View, volume: Path) -> None:
    """Move the scripts that packages brought; they run with the image's interpreter and find the volume's packages."""
    extend_path = f"\nimport sys; sys.path.append({str(volume / 'current')!r})\n".encode()
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
            path.write_bytes(shebang.replace(view_bin, os.fsencode(Path(sys.prefix) / "bin")) + extend_path + rest)
            path.chmod(mode)
        move(path, target / path.name)
