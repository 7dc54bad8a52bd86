"""The transaction: a view, uv, what arrived, a new generation, the switch."""

from __future__ import annotations

import argparse
from pathlib import Path

from ipybox_sandbox.installer.arrivals import clean, compile_bytecode, merge
from ipybox_sandbox.installer.files import remove_foreign
from ipybox_sandbox.installer.generations import (
    collect_garbage,
    current_generation,
    new_generation,
    remove_distribution,
    switch,
)
from ipybox_sandbox.installer.task import InstallError, Paths, Request
from ipybox_sandbox.installer.uv import refuse_image_changes, run_uv
from ipybox_sandbox.installer.view import distribution_stamps, make_view
from ipybox_sandbox.paths import Paths as SandboxPaths


def main(arguments: list[str]) -> int:
    """Run the task; besides the sandbox's paths its one argument is a JSON object, see Request."""
    parser = argparse.ArgumentParser(prog="ipybox-installer", description=__doc__)
    SandboxPaths.add_options(parser)
    parser.add_argument("--staging", type=Path, required=True, help="a directory of the volume, to be made and removed")
    parser.add_argument("request", type=Request.parse)
    options = parser.parse_args(arguments)
    paths = SandboxPaths.from_options(options)
    try:
        place = Paths(volume=Path(paths.packages), staging=options.staging, egress_address=paths.egress_address)
        install(options.request, place)
    except InstallError as error:
        print(error, flush=True)
        return 1
    return 0


def install(request: Request, paths: Paths) -> None:
    """Install into a new generation and switch to it; on any error the volume stays as it was."""
    collect_garbage(paths.volume)
    staging = paths.staging
    staging.mkdir(mode=0o700)
    try:
        current = current_generation(paths.volume)
        view = make_view(staging / "view", paths.image_site, current)
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
        merge(view, {entry.directory for entry in changed.values()}, generation, paths.volume)
        switch(paths.volume, generation)
        print("Installed " + ", ".join(f"{entry.name} {entry.version}" for entry in changed.values()), flush=True)
    finally:
        remove_foreign(staging)
    collect_garbage(paths.volume)
