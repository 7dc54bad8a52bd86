"""`%pip` in cells, and the stand-in for modules of earlier versions."""

from __future__ import annotations

import asyncio
import datetime
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from ipybox_sandbox import bridge, magics
from ipybox_sandbox.toolerrors import InstallError

# As they were generated, in the parts that count.
EARLIER_PACKAGE = """
import os
from mcpygen.tool_exec.client import ToolRunner, ToolRunnerError

CLIENT = ToolRunner(server_name="srv", server_params={"command": "rm"}, host=os.environ.get("H", "x"), port=8900)
"""
EARLIER_MODULE = """
from datetime import datetime
from pydantic import BaseModel
from . import CLIENT

class Params(BaseModel):
    when: datetime
    x: int | None = None

def run(params: Params):
    return CLIENT.run_sync(tool_name="to-ol", tool_args=params.model_dump(exclude_none=True))

async def arun(params: Params):
    return await CLIENT.run(tool_name="to-ol", tool_args=params.model_dump(exclude_none=True))
"""


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    shell = InteractiveShell.instance()
    magics.load_ipython_extension(shell)
    yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    requirements: list[str] = []

    def install(requirement: str) -> str:
        requirements.append(requirement)
        if requirement == "bad":
            raise InstallError("no such package")
        return f"did {requirement}"

    monkeypatch.setattr(bridge, "install", install)
    return requirements


@pytest.mark.parametrize(
    ("line", "requirements"),
    [
        ("install numpy", ["numpy"]),
        ("install 'numpy>=2' requests[socks]", ["numpy>=2", "requests[socks]"]),
        ("install \"a >= 1; python_version > '3'\"", ["a >= 1; python_version > '3'"]),
        ("install -q -U numpy  # a comment", ["numpy"]),
    ],
)
def test_installs_each_requirement(
    shell: InteractiveShell,
    installed: list[str],
    capsys: pytest.CaptureFixture[str],
    line: str,
    requirements: list[str],
) -> None:
    shell.run_line_magic("pip", line)
    assert installed == requirements
    assert f"did {requirements[-1]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "install --index-url http://x numpy",
        "install -r requirements.txt",
        "install -e .",
        "install",
        "uninstall numpy",
        "download x",
        "install 'x",
        "show",
        "show no-such-package",
    ],
)
def test_what_has_no_meaning_here_is_refused_with_words(
    shell: InteractiveShell, installed: list[str], line: str
) -> None:
    with pytest.raises(UsageError, match="%pip"):
        shell.run_line_magic("pip", line)
    assert installed == []


def test_a_failed_install_is_an_error_of_the_cell(shell: InteractiveShell, installed: list[str]) -> None:
    assert not shell.run_cell("%pip install bad").success


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("list", "pydantic "),
        ("freeze", "pydantic=="),
        ("show pydantic", "Name: pydantic"),
        ("", "usage:"),
        ("--help", "usage:"),
    ],
)
def test_shows_what_is_installed(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    shell.run_line_magic("pip", line)
    assert words in capsys.readouterr().out


def test_a_module_of_an_earlier_version_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "earlier" / "srv"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(EARLIER_PACKAGE)
    (package / "tool.py").write_text(EARLIER_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    asked: list[tuple[str, str, Mapping[str, Any]]] = []
    answers: list[dict[str, Any]] = [
        {"content": [{"type": "text", "text": "hello"}]},
        {"content": [], "structuredContent": {"a": 1}},
    ]

    def call(server: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        asked.append((server, tool, arguments))
        return answers[len(asked) - 1]

    async def acall(server: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return call(server, tool, arguments)

    monkeypatch.setattr(bridge, "call", call)
    monkeypatch.setattr(bridge, "acall", acall)
    from earlier.srv import tool  # type: ignore[import-not-found]

    params = tool.Params(when=datetime.datetime(2025, 1, 2))
    assert tool.run(params) == "hello"
    assert asyncio.run(tool.arun(params)) == {"a": 1}
    assert asked == [("srv", "to-ol", {"when": "2025-01-02T00:00:00"})] * 2
    for name in [name for name in sys.modules if name.split(".")[0] == "earlier"]:
        del sys.modules[name]
