"""Schemas and names that want to become code, reach out, or take all time and memory."""

from __future__ import annotations

import ast
import builtins
import json
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apigen_support import Workspace, obj, workspace_of

from ipybox_sandbox.apigen.module import Tool, generate_modules
from ipybox_sandbox.apigen.package import write_package
from ipybox_sandbox.apigen.verify import UnexpectedCodeError, verify_module

BOOM = "__import__('builtins').TRIPWIRE.append(1)"
TEXTS = [
    f'"""\n{BOOM}\n"""',
    f"'''\n{BOOM}\n'''",
    f'"\n{BOOM}\n"',
    f"'\n{BOOM}\n'",
    f'\\"""\n{BOOM}\n\\"""',
    f'\\\\"""+{BOOM}+"""',
    f"\\\n{BOOM}\n#",
    f"\r{BOOM}\r",
    f"\x0b{BOOM}\x0c{BOOM}",
    f"\u2028{BOOM}\u2029{BOOM}\x85{BOOM}",
    f"\x00{BOOM}\x00",
    f"\u202e{BOOM}\u2066",
    f"{{{BOOM}}} {{{{ {BOOM} }}}} {{% {BOOM} %}}",
    f"]): pass\n{BOOM}\nclass X(",
    f"# \n{BOOM}",
    BOOM,
    "\\",
    '"',
    '\\"',
    '""""',
    "\\N{LATIN SMALL LETTER A}\\x41\\u0041\\ud800",
    "\ud800",
    "%s %(x)s",
    "",
]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    yield from workspace_of(tmp_path, monkeypatch)


@pytest.fixture
def tripwire(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    wire: list[int] = []
    monkeypatch.setattr(builtins, "TRIPWIRE", wire, raising=False)
    yield wire
    assert wire == []


def schema_with(text: str) -> dict[str, Any]:
    """The text in every place where a schema has text."""
    leaf = {
        "type": "string",
        "description": text,
        "title": text,
        "default": text,
        "pattern": text,
        "format": text,
        "examples": [text],
        "$comment": text,
    }
    return {
        "type": "object",
        "title": text,
        "description": text,
        "required": [text],
        "properties": {
            text: leaf,
            f"{text}x": {"enum": [text, f"{text}2"], "default": text, "description": text},
            "const": {"const": text},
            "mixed": {"enum": [text, 1, None, {text: text}]},
            "default_object": {"type": "object", "default": {text: [text]}, "title": text},
            "default_list": {"type": "array", "items": {"type": "string"}, "default": [text]},
            "type": {"type": text},
            "types": {"type": [text, "string"]},
            "ref": {"$ref": f"#/$defs/{text.replace('~', '~0').replace('/', '~1')}"},
            "bad_ref": {"$ref": text},
            "dynamic": {"$dynamicRef": text, "$anchor": text, "$id": text},
            "union": {
                "oneOf": [
                    {"type": "object", "title": text, "properties": {text: {"const": text}}},
                    {"type": "object", "title": text, "properties": {text: {"const": f"{text}!"}}},
                ],
                "discriminator": {"propertyName": text, "mapping": {text: text}},
            },
            "consts": {"oneOf": [{"const": text, "title": text, "description": text}]},
            "dict": {"type": "object", "additionalProperties": {"type": "string", "enum": [text]}},
            "numbers": {"type": "integer", "minimum": text, "maximum": [text], "multipleOf": {text: 1}},
            "lengths": {"type": "string", "minLength": text, "maxLength": -1},
            "custom": {"type": "string", "x-python-type": text, "customTypePath": text, "customBasePath": text},
            "named": {"type": "string", "enum": ["a"], "x-enum-varnames": [text]},
        },
        "$defs": {text: {"type": "object", "title": text, "description": text, "properties": {text: leaf}}},
        "patternProperties": {text: leaf},
        text: text,
    }  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_no_text_becomes_code(workspace: Workspace, tripwire: list[int], text: str) -> None:
    schema = schema_with(text)
    tools = [
        Tool(text, "tool", text, schema, schema),
        Tool(f"other {text}", "fine", "", obj({"a": {"type": "string"}})),
    ]
    results = write_package(str(workspace.path), "srv", tools)
    module, package, fine = (workspace.imported(name) for name in ("srv.tool", "srv", "srv.fine"))
    assert "could not be modelled" not in (results[0][1] or "")
    assert module.Params.model_fields
    assert fine.Params(a="x").a == "x"
    for imported in (module, package, fine):
        source = Path(str(imported.__file__)).read_text()
        ast.parse(source)
        assert all(character.isprintable() or character == "\n" for character in source)
    assert text in module.run.__code__.co_consts


@pytest.mark.parametrize("text", [text for text in TEXTS if "\ud800" not in text], ids=lambda t: str(TEXTS.index(t)))
def test_values_arrive_as_the_schema_has_them(workspace: Workspace, tripwire: list[int], text: str) -> None:
    schema = obj({text: {"type": "string"}, "e": {"enum": [text, "z"]}, "d": {"type": "string", "default": text}}, text)
    module = workspace.module(schema)
    module.run(module.Params(**{text: text, "e": text, "d": module.Params.model_fields["d"].default}))
    assert workspace.sent == {text: text, "e": text, "d": text}


@pytest.mark.parametrize(
    "reference",
    [
        "http://127.0.0.1:9/x.json",
        "https://example.org/x#/$defs/a",
        "file:///etc/passwd",
        "/etc/passwd",
        "../x.json",
        "x.json",
        "//host/x",
        "data:,{}",
    ],
)
def test_no_reference_out_of_the_schema_is_followed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    def never(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("reached out")

    monkeypatch.setattr(socket, "create_connection", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(urllib.request, "urlopen", never)
    opened: list[str] = []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    schema = obj(
        {
            "a": {"$ref": reference},
            "b": {"type": "array", "items": {"allOf": [{"$ref": reference}]}},
            "c": {"type": "integer"},
        }
    )
    (module,) = generate_modules("srv", [Tool("t", "t", "", schema)])
    assert module.fallback == "a $ref out of the schema is not followed"
    assert "a: Any" in module.source
    assert "c: Annotated[int | None" in module.source
    assert "# Parts are untyped: a $ref out of the schema is not followed" in module.source
    assert not [path for path in opened if "passwd" in path or "x.json" in path]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for level in range(depth):
        schema = obj({f"level{level}": schema}) if level % 2 else {"type": "array", "items": schema}
    return obj({"deep": schema})


def doubling(levels: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {"L0": {"type": "string"}}
    for level in range(1, levels):
        part = {"type": "array", "items": {"$ref": f"#/$defs/L{level - 1}"}}
        definitions[f"L{level}"] = {
            "anyOf": [part, {"type": "object", "additionalProperties": {"$ref": f"#/$defs/L{level - 1}"}}]
        }
    return obj({"x": {"$ref": f"#/$defs/L{levels - 1}"}}, **{"$defs": definitions})


HUGE = {
    "5,000 properties": obj({f"property_{n}": {"type": "string", "description": "d" * 50} for n in range(5_000)}),
    "200 deep": nested(200),
    "10 MB": obj({f"p{n}": {"type": "string", "description": "x" * 100_000} for n in range(100)}),
    "10 MB of enum": obj({"e": {"enum": [f"value {n} {'x' * 90}" for n in range(100_000)]}}),
    "10 MB in one default": obj({"d": {"type": "string", "default": "x" * 10_000_000}}),
    "2 to the 60th": doubling(60),
    "all of all": {"allOf": [{"allOf": [obj({f"a{n}": {"allOf": [{"$ref": "#"}]}}) for n in range(50)]}] * 50},
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_schemas_cost_little_and_spoil_nothing(workspace: Workspace, name: str) -> None:
    tools = [Tool("huge", "huge", "", HUGE[name]), Tool("fine", "fine", "", obj({"a": {"type": "string"}}, "a"))]
    write_package(str(workspace.path), "srv", tools)  # some of them would never end
    assert (workspace.path / "mcptools/srv/huge.py").stat().st_size < 1_000_000
    huge, fine = workspace.imported("srv.huge"), workspace.imported("srv.fine")
    assert huge.Params
    assert "a: str" in Path(str(fine.__file__)).read_text()


def test_what_cannot_be_modelled_is_a_dict_and_says_so(workspace: Workspace) -> None:
    module = workspace.module(HUGE["5,000 properties"], obj({"n": {"type": "integer"}}))
    assert "class Params(RootModel[dict[str, Any]])" in workspace.source()
    assert "# Parts are untyped: the schema could not be modelled: the schema has more than" in workspace.source()
    assert "n: int | None" in workspace.source()
    workspace.answer = {"content": [], "structuredContent": {"n": 1}}
    assert module.run(module.Params(property_1="x")).n == 1
    assert workspace.sent == {"property_1": "x"}


@pytest.mark.parametrize(
    "schema",
    [
        None,
        3,
        "x",
        [],
        {"type": 3},
        {"properties": 3},
        {"properties": {"a": 3}},
        {"required": "x"},
        {"anyOf": {}},
        {"enum": []},
        {"$ref": "#"},
        {"allOf": [3, None]},
        {"$defs": 3, "$ref": "#/$defs/x"},
    ],
)
def test_nonsense_is_a_module_too(workspace: Workspace, schema: Any) -> None:
    assert workspace.module(schema, schema).Params


GOOD = generate_modules("srv", [Tool("t", "t", "", obj({"a": {"type": "string"}}))])[0].source


@pytest.mark.parametrize(
    "change",
    [
        ("class Params", f"{BOOM}\n\n\nclass Params"),
        ("from uuid import UUID", "from os import system as UUID"),
        ("from uuid import UUID", "import os"),
        ("str | None", f"str | {BOOM}"),
        ("str | None", "str | print('x')"),
        ("str | None", "str.__class__"),
        ("str | None", "str | (lambda: 1)"),
        ("] = None", f"] = {BOOM}"),
        ("] = None", "] = [x for x in ()]"),
        ("] = None", '] = f"{1}"'),
        ("exclude_if=is_none", "default_factory=print"),
        ("exclude_if=is_none", "exclude_if=print"),
        ("class Params(BaseModel)", "class Params(BaseModel, metaclass=print)"),
        ("class Params(BaseModel)", "class Params(Field)"),
        ("class Params(BaseModel)", "@print\nclass Params(BaseModel)"),
        ("    model_config", "    def __init__(self): pass\n    model_config"),
        ('run_tool("srv", "t", params)', 'run_tool("other", "t", params)'),
        ('run_tool("srv", "t", params)', 'run_tool("srv", "t", print(params))'),
        ("def run(params: Params)", "def run(params: Params = print())"),
        ("def run", "@print\ndef run"),
        ("async def arun", "while 1: pass\nasync def arun"),
    ],
)  # fmt: skip
def test_the_last_look_refuses_whatever_a_module_does_not_need(change: tuple[str, str]) -> None:
    verify_module(GOOD, server="srv", tool="t")
    assert change[0] in GOOD
    with pytest.raises(UnexpectedCodeError):
        verify_module(GOOD.replace(*change, 1), server="srv", tool="t")


def test_the_request_is_what_json_makes_of_it() -> None:
    assert json.loads(json.dumps(HUGE["200 deep"])) == HUGE["200 deep"]
