"""The source of one tool's module, and the proof that it is harmless and imports."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

from ipybox_sandbox.apigen.models import render_models
from ipybox_sandbox.apigen.schema import UNTYPED, read_tool_schema
from ipybox_sandbox.apigen.text import docstring, first_line, literal, readable
from ipybox_sandbox.apigen.verify import verify_module

MAX_SOURCE_CHARS = 1_000_000
MAX_DESCRIPTION_CHARS = 20_000
BATCH_TOOLS = 10

# All of pydantic's and typing's, used or not: people add models to these files by hand.
_IMPORTS = """\
# pyright: reportUnusedImport=false

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, List, Literal, Optional, Union
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from ipybox_sandbox.toolapi import ToolText, arun_tool, is_none, run_tool"""


@dataclass(frozen=True)
class Tool:
    """A tool as its server lists it, and the module name that the host chose."""

    name: str
    module: str
    description: str
    input_schema: object
    output_schema: object = None

    @property
    def summary(self) -> str:
        return first_line(readable(self.description))


@dataclass(frozen=True)
class Module:
    """Source of a generated module; `fallback` says why parts of it are untyped."""

    source: str
    fallback: str | None


def generate_modules(server: str, tools: Sequence[Tool]) -> list[Module]:
    """A module for every tool, in order. Each imports, whatever the schemas say: at worst its arguments are untyped."""
    modules: list[Module] = []
    for batch in _batches(tools):
        try:
            schemas = [read_tool_schema(tool.input_schema, tool.output_schema) for tool in batch]
            models = render_models(schemas)
            modules += [_checked(server, *each) for each in zip(batch, models, (s.notes for s in schemas), strict=True)]
        except Exception:
            # One of them is bad, and tells nobody which: each by itself.
            modules += [_generate_alone(server, tool) for tool in batch]
    return modules


def _batches(tools: Sequence[Tool]) -> Iterator[Sequence[Tool]]:
    for start in range(0, len(tools), BATCH_TOOLS):
        yield tools[start : start + BATCH_TOOLS]


def _generate_alone(server: str, tool: Tool) -> Module:
    notes: list[str] = []
    for input_schema, output_schema in _attempts(tool):
        try:
            schema = read_tool_schema(input_schema, output_schema)
            return _checked(server, tool, render_models([schema])[0], [*notes, *schema.notes])
        except Exception as error:
            # Whatever the generator or pydantic stumbled over: the next attempt asks for less.
            notes = notes or [f"the schema could not be modelled: {_words(error)}"]
    raise ValueError(f"no module for {tool.module}: {notes[0]}")


def _attempts(tool: Tool) -> Iterator[tuple[object, object]]:
    """Schemas to try, less and less typed."""
    yield tool.input_schema, tool.output_schema
    if tool.output_schema is not None:
        yield tool.input_schema, UNTYPED
        yield UNTYPED, tool.output_schema
    yield UNTYPED, None if tool.output_schema is None else UNTYPED


def _checked(server: str, tool: Tool, models: str, notes: list[str]) -> Module:
    fallback = "; ".join(notes) or None
    source = _source(server, tool, models, fallback)
    if len(source) > MAX_SOURCE_CHARS:
        raise ValueError(f"its module would have more than {MAX_SOURCE_CHARS:,} characters")
    verify_module(source, server=server, tool=tool.name)
    _import(source)
    return Module(source, fallback)


def _source(server: str, tool: Tool, models: str, fallback: str | None) -> str:
    description = readable(tool.description[:MAX_DESCRIPTION_CHARS])
    about = description or f"Tool {readable(tool.name)} of the MCP server {server}."
    result = "ToolText" if tool.output_schema is None else "Result"
    arguments = f"{literal(server)}, {literal(tool.name)}, params"
    if tool.output_schema is not None:
        arguments += ", Result"
    comment = f"# Parts are untyped: {readable(fallback)}".replace("\n", " ") if fallback else ""
    functions = (
        f"def run(params: Params) -> {result}:\n    {docstring(about, indent='    ')}\n"
        f"    return run_tool({arguments})\n\n\n"
        f"async def arun(params: Params) -> {result}:\n"
        '    """Like `run`, for `await`: any number of calls at once."""\n'
        f"    return await arun_tool({arguments})\n"
    )
    head = "\n".join(part for part in (docstring(about), comment) if part)
    return f"{head}\n{_IMPORTS}\n\n\n{models}\n\n\n{functions}"


def _import(source: str) -> None:
    """Builds the classes, which is where pydantic would refuse them."""
    module = ModuleType("ipybox_generated")
    sys.modules[module.__name__] = module  # where pydantic looks names up
    try:
        exec(compile(source, "<generated>", "exec", dont_inherit=True), module.__dict__)
    finally:
        del sys.modules[module.__name__]


def _words(error: BaseException) -> str:
    return first_line(readable(str(error))) or type(error).__name__
