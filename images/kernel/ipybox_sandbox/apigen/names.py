"""Names for fields and classes: Python identifiers that shadow nothing, whatever the schema calls things."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping

from pydantic import BaseModel

MODULE_NAMES = frozenset(
    # Everything that a generated module imports or defines, so that no class or annotation is shadowed.
    [
        "annotations",
        "Annotated",
        "Any",
        "List",
        "Literal",
        "Optional",
        "Union",
        "BaseModel",
        "ConfigDict",
        "Field",
        "RootModel",
        "datetime",
        "date",
        "UUID",
        "ToolText",
        "run_tool",
        "arun_tool",
        "is_none",
        "Params",
        "Result",
        "run",
        "arun",
        "Document",
    ]
)
_BUILTIN_TYPES = frozenset(["str", "int", "float", "bool", "list", "dict", "None", "True", "False"])
_MODEL_ATTRIBUTES = frozenset(name for name in dir(BaseModel) if not name.startswith("_"))
# Not in a class, whose annotations name none of these, or (`list`) have another word for it.
_HARMLESS_FIELDS = frozenset(
    ["annotations", "arun", "arun_tool", "date", "datetime", "Document", "list", "run", "run_tool", "ToolText", "UUID"]
)
_RESERVED_FIELDS = (_MODEL_ATTRIBUTES | _BUILTIN_TYPES | MODULE_NAMES) - _HARMLESS_FIELDS
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


def field_names(wire_names: Iterable[str], *, also_reserved: frozenset[str] = frozenset()) -> Mapping[str, str]:
    """Wire name → field name. A wire name that can be a field name stays as it is; the others give way to it."""
    wires = list(wire_names)
    reserved = _RESERVED_FIELDS | also_reserved
    chosen = {wire: wire for wire in wires if _is_field_name(wire, reserved)}
    taken = set(chosen)
    for wire in wires:
        if wire not in chosen:
            name = _numbered(_to_identifier(wire, reserved), taken)
            chosen[wire] = name
            taken.add(name)
    return {wire: chosen[wire] for wire in wires}


class ClassNames:
    """Hands out class names that are unique within a module and equal no field name of it."""

    def __init__(self, avoid: Iterable[str] = ()) -> None:
        self._taken = set(MODULE_NAMES | _BUILTIN_TYPES) | set(avoid)

    def fresh(self, hint: str) -> str:
        words = re.findall(r"[A-Za-z0-9]+", hint)
        name = "".join(word[0].upper() + word[1:] for word in words)[:60]
        if not name or name[0].isdigit() or keyword.iskeyword(name):
            name = f"Model{name}"
        unique = _numbered(name, self._taken, separator="")
        self._taken.add(unique)
        return unique


def _is_field_name(wire: str, reserved: frozenset[str]) -> bool:
    return (
        wire.isidentifier()
        and len(wire) <= 100
        and not wire.startswith(("_", "model_validate", "model_dump"))
        and not keyword.iskeyword(wire)
        and wire not in reserved
        and unicodedata.normalize("NFKC", wire) == wire
        and not any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in wire)
    )


def _to_identifier(wire: str, reserved: frozenset[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", wire[:100]).lstrip("_")
    if not name.strip("_"):
        return "field"
    if name[0].isdigit() or name.startswith(("model_validate", "model_dump")):
        name = f"field_{name}"
    return f"{name}_" if keyword.iskeyword(name) or name in reserved else name


def _numbered(name: str, taken: set[str], *, separator: str = "_") -> str:
    if name not in taken:
        return name
    stem = name.rstrip("_") if separator else name
    number = 2
    while f"{stem}{separator}{number}" in taken:
        number += 1
    return f"{stem}{separator}{number}"
