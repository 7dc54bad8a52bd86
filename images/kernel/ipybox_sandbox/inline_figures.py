"""matplotlib shows its figures in a cell's output, as in every notebook, without a variable in the environment."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_BACKEND = "module://matplotlib_inline.backend_inline"


class InlineFigures(MetaPathFinder):
    """Sets the backend once matplotlib is imported: above a matplotlibrc file, below `MPLBACKEND` and `mpl.use()`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "matplotlib":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _then_set_backend(spec.loader)  # type: ignore[method-assign]
        return spec


def _then_set_backend(loader: Loader) -> Callable[[ModuleType], None]:
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        execute(module)
        if not os.environ.get("MPLBACKEND"):
            module.rcParams["backend"] = _BACKEND

    return exec_module
