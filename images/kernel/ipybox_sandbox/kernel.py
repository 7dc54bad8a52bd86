"""One kernel's process, from the fork to its end: environment, import path, then ipykernel."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from ipybox_sandbox import bridge, process
from ipybox_sandbox.kernel_app import SandboxKernelApp
from ipybox_sandbox.kernel_tree import report
from ipybox_sandbox.model_help import shorten_help_of_models
from ipybox_sandbox.oom import oom_kills
from ipybox_sandbox.paths import FONT_CACHE, Paths

# A kernel's memory is what the container's is spent on, so it is what has to go when there is none left.
_OOM_SCORE = "500"

_IMPORTED_BY_A_KERNEL = (
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "faulthandler",
    "ipykernel.debugger",
    "pydantic",
    "pydantic.main",
    "pydantic.root_model",
    "stack_data",
    "tornado.platform.asyncio",
    "tornado.queues",
    "traitlets.config.argcomplete_config",
)


@dataclass(frozen=True)
class KernelOrder:
    """What is particular to one kernel."""

    connection_file: str
    env: dict[str, str]
    """The whole of the environment beyond PATH, HOME, USER and LANG."""
    cwd: str
    paths: Paths
    niceness: int


def preload() -> None:
    """Imports and sets up what every kernel needs, without starting a thread."""
    for name in ("ipybox_sandbox.magics", "ipybox_sandbox.toolapi", *_IMPORTED_BY_A_KERNEL):
        if _exists(name):
            importlib.import_module(name)
    shorten_help_of_models()


def run_kernel(order: KernelOrder, report_fd: int) -> NoReturn:
    """Becomes a kernel. Writes `{"ready": true}` to `report_fd` once its sockets are bound, and closes it."""
    code = 1
    log = os.fdopen(os.dup(2), "w")  # descriptor 2 itself becomes part of a cell's output
    try:
        _offer_to_oom_killer()
        os.nice(order.niceness)
        random.seed()
        environment = {**process.base_environment(), **order.env}
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        os.chdir(order.cwd)
        sys.argv = ["ipybox"]
        # Last, so that nothing there takes the place of the image's packages. The workspace stays there after a %cd.
        sys.path += [order.cwd, "", order.paths.current_packages]
        if order.paths.tools_address != bridge.ADDRESS:
            bridge.ADDRESS = os.environ["IPYBOX_TOOLS"] = order.paths.tools_address
        _place_font_cache()
        app = SandboxKernelApp.instance(connection_file=order.connection_file)
        app.initialize([])
        _set_up_shell(app, (order.paths.current_packages, order.cwd, os.path.join(order.cwd, "mcptools")))
        report(report_fd, {"ready": True})
        os.close(report_fd)
        log.close()
        app.start()
        code = 0
    except BaseException as error:
        if not log.closed:
            traceback.print_exc(file=log)
            log.flush()
        elif isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        atexit._run_exitfuncs()
        os._exit(code)


def _set_up_shell(app: SandboxKernelApp, watched: Iterable[str]) -> None:
    shell = app.shell
    shell.events.register("pre_run_cell", _ImportCaches(watched).refresh)
    shell.events.register("post_run_cell", lambda *_: shell.forget_old_cells())
    memory = _MemoryWatch()
    shell.events.register("pre_run_cell", memory.start_cell)
    shell.events.register("post_run_cell", memory.end_cell)
    if _exists("ipybox_sandbox.magics"):
        shell.extension_manager.load_extension("ipybox_sandbox.magics")


class _MemoryWatch:
    """Says what else looks like a program that fails without reason."""

    _kills = 0

    def start_cell(self, *_: Any) -> None:
        self._kills = oom_kills()

    def end_cell(self, *_: Any) -> None:
        if oom_kills() > self._kills:
            print("[Out of memory: a process in the sandbox was killed while this cell ran]", file=sys.stderr)


class _ImportCaches:
    """Lets a cell import what was installed or generated since the last one, whatever the clock of the files says."""

    def __init__(self, watched: Iterable[str]) -> None:
        self._watched = tuple(watched)
        self._seen: list[Any] = []

    def refresh(self, *_: Any) -> None:
        state = [_state_of(path) for path in self._watched]
        if state != self._seen:
            self._seen = state
            importlib.invalidate_caches()


def _state_of(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _offer_to_oom_killer() -> None:
    process.allow_inspection()  # else /proc/self is not ours to write
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(_OOM_SCORE)
    except OSError:
        pass  # a kernel without it chooses by size
    finally:
        process.forbid_inspection()


def _place_font_cache() -> None:
    """Spares the first `import matplotlib.pyplot` the seconds that making the list of fonts takes."""
    cache = os.path.join(os.path.expanduser("~"), ".cache", "matplotlib")
    if os.path.isdir(FONT_CACHE) and not os.path.exists(cache):
        try:
            shutil.copytree(FONT_CACHE, cache)
        except OSError:
            pass  # matplotlib makes its own


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
