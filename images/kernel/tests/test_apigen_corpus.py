"""The tools of real MCP servers, as test/corpus/record.mjs wrote them down: each has an API, typed and faithful."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis_jsonschema import from_schema
from jsonschema.validators import validator_for

from ipybox_sandbox.apigen.module import Tool
from ipybox_sandbox.apigen.package import write_package
from ipybox_sandbox.toolapi import arguments_of, value_of

KERNEL = Path(__file__).resolve().parent.parent
CORPUS = KERNEL.parent.parent / "test/corpus"
SERVERS = {
    "everything": "npm:@modelcontextprotocol/server-everything@2026.8.31",
    "filesystem": "npm:@modelcontextprotocol/server-filesystem@2026.8.31",
    "memory": "npm:@modelcontextprotocol/server-memory@2026.8.31",
    "sequential_thinking": "npm:@modelcontextprotocol/server-sequential-thinking@2026.8.31",
    "brave_search_original": "npm:@modelcontextprotocol/server-brave-search@0.6.2",
    "brave_search": "npm:@brave/brave-search-mcp-server@2.1.4",
    "github": "npm:@modelcontextprotocol/server-github@2025.4.8",
    "slack": "npm:@modelcontextprotocol/server-slack@2025.4.25",
    "google_maps": "npm:@modelcontextprotocol/server-google-maps@0.6.2",
    "playwright": "npm:@playwright/mcp@0.0.83",
    "chrome_devtools": "npm:chrome-devtools-mcp@1.11.0",
    "notion": "npm:@notionhq/notion-mcp-server@2.5.2",
    "context7": "npm:@upstash/context7-mcp@4.1.1",
    "tavily": "npm:tavily-mcp@0.2.22",
    "exa": "npm:exa-mcp-server@3.4.1",
    "mongodb": "npm:mongodb-mcp-server@3.0.4",
    "kubernetes": "npm:mcp-server-kubernetes@4.1.7",
    "time": "pypi:mcp-server-time==2026.10.19",
    "git": "pypi:mcp-server-git==2026.10.19",
    "fetch": "pypi:mcp-server-fetch==2026.10.24",
    "sqlite": "pypi:mcp-server-sqlite==2025.4.25",
    "duckduckgo": "pypi:duckduckgo-mcp-server==0.7.0",
    "arxiv": "pypi:arxiv-mcp-server==0.8.2",
    "aws_documentation": "pypi:awslabs.aws-documentation-mcp-server==1.2.3",
    "atlassian": "pypi:mcp-atlassian==0.23.1",
    "excel": "pypi:excel-mcp-server==2.2.2",
}
EXAMPLES = 10
"""Values made of each schema: always the same ones."""


class Corpus:
    """The packages of all servers in one workspace."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.tools: dict[str, list[Tool]] = {}
        self.fallbacks: dict[str, str] = {}
        for server in SERVERS:
            tools = [_tool(raw) for raw in _recorded(server)["tools"]]
            self.tools[server] = tools
            for module, fallback in write_package(str(workspace), server, tools):
                if fallback is not None:
                    self.fallbacks[f"{server}.{module}"] = fallback


def _recorded(server: str) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads((CORPUS / f"{server}.json").read_text())
    return recorded


def _tool(raw: dict[str, Any]) -> Tool:
    module = raw["name"].lower().translate(str.maketrans("-./", "___"))
    return Tool(raw["name"], module, raw.get("description", ""), raw["inputSchema"], raw.get("outputSchema"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    workspace = tmp_path_factory.mktemp("corpus")
    sys.path.insert(0, str(workspace))
    try:
        yield Corpus(workspace)
    finally:
        sys.path.remove(str(workspace))
        for name in [name for name in sys.modules if name.split(".")[0] == "mcptools"]:
            del sys.modules[name]
        importlib.invalidate_caches()


def test_the_recordings_are_of_these_versions() -> None:
    assert {server: _recorded(server)["origin"] for server in SERVERS} == SERVERS


def test_every_tool_is_fully_typed(corpus: Corpus) -> None:
    assert corpus.fallbacks == {}


def test_every_module_passes_a_strict_type_checker(corpus: Corpus, tmp_path: Path) -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--explicit-package-bases"),
            *("--cache-dir", str(tmp_path), "mcptools"),
        ],
        cwd=corpus.workspace,
        env={**os.environ, "MYPYPATH": str(KERNEL)},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"no issues found in {sum(len(tools) + 1 for tools in corpus.tools.values())} source files" in checked.stdout


@pytest.mark.parametrize("server", SERVERS)
def test_values_of_every_schema_arrive_as_they_are(corpus: Corpus, server: str) -> None:
    for tool in corpus.tools[server]:
        module = importlib.import_module(f"mcptools.{server}.{tool.module}")
        _check_arguments(module, tool)
        if tool.output_schema is not None:
            _check_results(module, tool)


def _check_arguments(module: ModuleType, tool: Tool) -> None:
    validator = _validator(tool.input_schema)

    @_examples
    @given(from_schema(_closed(tool.input_schema)))
    def check(value: dict[str, Any]) -> None:
        assume(validator.is_valid(value))
        sent = arguments_of(module.Params.model_validate(value))
        assert sent == value
        validator.validate(sent)

    check()


def _check_results(module: ModuleType, tool: Tool) -> None:
    validator = _validator(tool.output_schema)

    @_examples
    @given(from_schema(tool.output_schema))
    def check(value: dict[str, Any]) -> None:
        assume(validator.is_valid(value))  # hypothesis-jsonschema does not know `prefixItems`
        result = value_of({"content": [], "structuredContent": value}, "srv", tool.name, module.Result)
        kept = result.model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert kept == value
        validator.validate(kept)

    check()


_examples = settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def _validator(schema: Any) -> Any:
    return validator_for(schema)(schema)


def _closed(schema: Any) -> Any:
    """The schema without the names that it does not mention: `Params` takes those for typing errors."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: value if key in ("enum", "const", "default") else _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed
