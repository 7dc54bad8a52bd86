"""What the keywords of one schema say, whatever they hold: each may be of any JSON type."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ipybox_sandbox.apigen.merging import listed
from ipybox_sandbox.apigen.text import readable

MAX_VALUES = 100_000
"""Values in a tool's schemas, of whatever kind: beyond it they are not looked at."""
MAX_DESCRIPTION_CHARS = 4_000
MAX_DEFAULT_CHARS = 1_000
"""A longer default is only described."""

ANNOTATIONS = frozenset(
    [
        "$comment",
        "$defs",
        "$id",
        "$schema",
        "default",
        "definitions",
        "deprecated",
        "description",
        "examples",
        "nullable",
        "readOnly",
        "title",
        "writeOnly",
        "$anchor",
    ]
)
TYPED_FORMATS: Mapping[str, str] = {"date-time": "datetime", "date": "date", "uuid": "UUID"}
"""Formats that have a type of their own, in `Params`, and its name, which no field beside may have."""

_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})
_IMPLIED_TYPES = {
    "properties": "object",
    "additionalProperties": "object",
    "patternProperties": "object",
    "items": "array",
    "prefixItems": "array",
}


class SchemaTooLargeError(Exception):
    """The schema has more parts than a module should have."""


def types_of(flat: Mapping[str, Any]) -> list[str]:
    stated = flat.get("type")
    names = stated if isinstance(stated, list) else [stated]
    types = [name for name in names if isinstance(name, str) and (name in _SCALARS or name in ("object", "array"))]
    if types or stated is not None:
        return list(dict.fromkeys(types))
    return list(dict.fromkeys(kind for key, kind in _IMPLIED_TYPES.items() if key in flat))[:1]


def branches_of(flat: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Alternatives that differ in more than conditions."""
    for key in ("anyOf", "oneOf"):
        branches = [branch for branch in listed(flat.get(key)) if branch is not False]
        if branches and any(isinstance(branch, dict) and is_structural(branch) for branch in branches):
            return [branch if isinstance(branch, dict) else {} for branch in branches]
    return []


def is_structural(schema: Mapping[str, Any]) -> bool:
    keys = {"type", "properties", "items", "prefixItems", "$ref", "enum", "const", "anyOf", "oneOf", "allOf"}
    keys |= {"additionalProperties", "patternProperties"}
    return not keys.isdisjoint(schema)


def subschemas(root: object) -> Iterator[Mapping[str, Any]]:
    """Every object within; raises when there are far more than a schema has."""
    stack, seen = [root], 0
    while stack:
        part = stack.pop()
        seen += 1
        if seen > MAX_VALUES:
            raise SchemaTooLargeError(f"the schema has more than {MAX_VALUES:,} values")
        if isinstance(part, dict):
            yield part
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)


def description_of(flat: Mapping[str, Any]) -> str:
    text = flat.get("description")
    return readable(text[:MAX_DESCRIPTION_CHARS]) if isinstance(text, str) else ""


def is_unicode(value: object) -> bool:
    """False for text with half a surrogate pair, which JSON can hold and pydantic can't."""
    return not isinstance(value, str) or not any("\ud800" <= character <= "\udfff" for character in value)


def is_short(value: object) -> bool:
    text = json.dumps(value, ensure_ascii=False)
    return len(text) <= MAX_DEFAULT_CHARS and is_unicode(text)


def short(value: object) -> str:
    text = readable(value if isinstance(value, str) else repr(value)[:1_000]).replace("\n", " ")
    return text if len(text) <= 200 else text[:199] + "…"
