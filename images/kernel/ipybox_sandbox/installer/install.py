"""The transaction: a view, uv, what arrived, a new generation, the switch; a build leaves its view to another task."""

from __future__ import annotations

import argparse
from pathlib import Path

from ipybox_sandbox.installer.arrivals import clean, compile_bytecode, merge
from ipybox_sandbox.installer.delivery import receive
from ipybox_sandbox.installer.files import remove_foreign
from ipybox_sandbox.installer.generations import (
    collect_garbage,
    current_generation,
    new_generation,
    remove_distribution,
    switch,
)
from ipybox_sandbox.installer.task import MUST_BUILD, BuildNeededError, InstallError, Paths, Request
from ipybox_sandbox.installer.uv import refuse_image_changes, run_uv
from ipybox_sandbox.installer.view import View, distributions, make_view, view_at
from ipybox_sandbox.paths import BUILD_NAME
from ipybox_sandbox.paths import Paths as SandboxPaths

VIEW_NAME = "view"


def main(arguments: list[str]) -> int:
    """Run the task; besides the sandbox's paths its one argument is a JSON object, see Request."""
    parser = argparse.ArgumentParser(prog="ipybox-installer", description=__doc__)
    SandboxPaths.add_options(parser)
    parser.add_argument("--staging", type=Path, required=True, help="a directory to be made and worked in")
    parser.add_argument("request", type=Request.parse)
    options = parser.parse_args(arguments)
    paths = SandboxPaths.from_options(options)
    place = Paths(
        volume=Path(paths.packages),
        staging=options.staging,
        delivery=Path(paths.scratch, BUILD_NAME, VIEW_NAME),
        egress_address=paths.egress_address,
    )
    try:
        run(options.request, place)
    except InstallError as error:
        print(error, flush=True)
        return 1
    except BuildNeededError:
        return MUST_BUILD
    return 0


def run(request: Request, paths: Paths) -> None:
    """Take one step; whatever fails, the volume stays as it was."""
    try:
        if request.step == "build":
            build(request, paths)
        else:
            install(request, paths)
    except RecursionError as error:
        raise InstallError("It has more directories in each other than can be installed.") from error


def build(request: Request, paths: Paths) -> None:
    """Install into a view in the staging directory, and leave it there: foreign code runs meanwhile."""
    paths.staging.mkdir(mode=0o700)
    view = make_view(paths.staging / VIEW_NAME, paths.image_site, current_generation(paths.volume))
    run_uv(request, paths, paths.staging, view)


def install(request: Request, paths: Paths) -> None:
    """Install into a new generation and switch to it; no foreign code runs meanwhile."""
    collect_garbage(paths.volume)
    staging = paths.staging
    staging.mkdir(mode=0o700)
    try:
        current = current_generation(paths.volume)
        if request.step == "commit":
            receive(paths.delivery, staging / VIEW_NAME)
            view = view_at(staging / VIEW_NAME)
        else:
            view = make_view(staging / VIEW_NAME, paths.image_site, current)
            run_uv(request, paths, staging, view)
        commit(view, current, paths)
    finally:
        remove_foreign(staging)
    collect_garbage(paths.volume)


def commit(view: View, current: Path | None, paths: Paths) -> None:
    """Merge what arrived in a view, which may be anything, with the current generation into the next one."""
    arrived = distributions(view.site)
    refuse_image_changes(arrived, paths.image_site)
    if not arrived:
        print("Nothing to do: it is installed already.", flush=True)
        return
    clean(view, arrived, paths.image_site)
    compile_bytecode(view.site)
    generation = new_generation(paths.staging, current)
    for name in arrived:
        remove_distribution(generation, name)
    merge(view, {entry.directory for entry in arrived.values()}, generation, paths.volume)
    switch(paths.volume, generation)
    print("Installed " + ", ".join(f"{entry.name} {entry.version}" for entry in arrived.values()), flush=True)
