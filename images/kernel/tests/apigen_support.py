"""What the tests of API generation share: packages in a workspace of their own, and calls that go nowhere."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ipybox_sandbox import bridge
from ipybox_sandbox.apigen.module import Tool
from ipybox_sandbox.apigen.package import write_package

Schema = dict[str, Any] | bool


class Workspace:
    """A workspace on sys.path, and the arguments of the last call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: Mapping[str, Any] | None = None
        self.answer: dict[str, Any] = {"content": []}

    def module(self, params: Schema, result: Schema | None = None, *, description: str = "") -> ModuleType:
        """The imported module of a tool `tool` of a server `srv`."""
        write_package(str(self.path), "srv", [Tool("tool", "tool", description, params, result)])
        return self.imported("srv.tool")

    def imported(self, name: str) -> ModuleType:
        self.forget()
        return importlib.import_module(f"mcptools.{name}")

    def source(self) -> str:
        return (self.path / "mcptools/srv/tool.py").read_text()

    def forget(self) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "mcptools"]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def call(self, server: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.sent = arguments
        return self.answer


def workspace_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Body of the fixture `workspace`."""
    workspace = Workspace(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(bridge, "call", workspace.call)
    workspace.forget()
    yield workspace
    workspace.forget()


def obj(properties: Mapping[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(required), **more}
