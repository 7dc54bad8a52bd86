"""What generated modules stand on: arguments out of `Params`, values out of results. Standard library and pydantic."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar, overload

from pydantic import BaseModel, ValidationError

from ipybox_sandbox import bridge
from ipybox_sandbox.toolcontent import (
    AudioBlock,
    Block,
    ImageBlock,
    LinkBlock,
    OtherBlock,
    ResourceBlock,
    TextBlock,
    ToolText,
    text_of,
)
from ipybox_sandbox.toolerrors import (
    ToolError,
    ToolNotFoundError,
    ToolRejectedError,
    ToolRunnerError,
    ToolTimeoutError,
    UpstreamUnavailableError,
)

__all__ = [
    "AudioBlock",
    "Block",
    "ImageBlock",
    "LinkBlock",
    "OtherBlock",
    "ResourceBlock",
    "TextBlock",
    "ToolError",
    "ToolNotFoundError",
    "ToolRejectedError",
    "ToolRunnerError",
    "ToolText",
    "ToolTimeoutError",
    "UpstreamUnavailableError",
    "arun_tool",
    "is_none",
    "load_tool_module",
    "run_tool",
]

ResultT = TypeVar("ResultT", bound=BaseModel)


@overload
def run_tool(server: str, tool: str, params: BaseModel) -> ToolText: ...
@overload
def run_tool(server: str, tool: str, params: BaseModel, result_type: type[ResultT]) -> ResultT: ...
def run_tool(server: str, tool: str, params: BaseModel, result_type: type[ResultT] | None = None) -> ToolText | ResultT:
    """Calls a tool of a registered MCP server with the fields of `params` that were set.

    Raises:
        ToolError: or one of its subclasses, with the server's own text.
    """
    result = bridge.call(server, tool, arguments_of(params))
    return value_of(result, server, tool, result_type)


@overload
async def arun_tool(server: str, tool: str, params: BaseModel) -> ToolText: ...
@overload
async def arun_tool(server: str, tool: str, params: BaseModel, result_type: type[ResultT]) -> ResultT: ...
async def arun_tool(
    server: str, tool: str, params: BaseModel, result_type: type[ResultT] | None = None
) -> ToolText | ResultT:
    """Like `run_tool`, for asyncio: any number of calls at once."""
    result = await bridge.acall(server, tool, arguments_of(params))
    return value_of(result, server, tool, result_type)


def is_none(value: object) -> bool:
    """For `Field(exclude_if=...)`: None stands for unset where the tool does not take null."""
    return value is None


def load_tool_module(package: str, name: str, modules: Iterable[str]) -> ModuleType:
    """Imports a tool's module when it is first used as an attribute of its server's package."""
    if name not in modules:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return importlib.import_module(f"{package}.{name}")


def arguments_of(params: BaseModel) -> dict[str, Any]:
    """The JSON object that goes to the tool: names as the tool has them, unset fields left out."""
    arguments = params.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if not isinstance(arguments, dict):
        raise TypeError(f"the arguments of a tool are an object, not {type(arguments).__name__}")
    return arguments


def value_of(
    result: Mapping[str, Any], server: str, tool: str, result_type: type[ResultT] | None
) -> ToolText | ResultT:
    """What a caller gets of a CallToolResult: a `Result` where the tool has an outputSchema, else text."""
    if result_type is None:
        return text_of(result)
    structured = result.get("structuredContent")
    candidates = _guesses(text_of(result)) if structured is None else [structured]
    problem: ValidationError | None = None
    for candidate in candidates:
        try:
            return result_type.model_validate(candidate)
        except ValidationError as error:
            problem = problem or error
    message = f"the result of {tool} does not fit its outputSchema; it is in the error's .result: {problem}"
    raise ToolError(message, server, tool, result)


def _guesses(text: ToolText) -> list[object]:
    """What the structured content may have been, for servers that announce a schema and then send text only."""
    guesses: list[object] = []
    try:
        parsed = json.loads(text)
        guesses += [parsed, {"result": parsed}]
    except (ValueError, RecursionError):
        pass
    return [*guesses, {"result": str(text)}]
