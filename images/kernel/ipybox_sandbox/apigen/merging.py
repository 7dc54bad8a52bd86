"""`allOf`: two schemas as one that admits at least what both admit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> Mapping[str, Any]:
    """One level deep; annotations and bounds of `first` win."""
    merged = dict(first)
    for key, value in second.items():
        if key not in merged:
            merged[key] = value
        elif key in ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"):
            merged[key] = _merge_properties(mapping(merged[key]), mapping(value))
        elif key == "required":
            merged[key] = list(dict.fromkeys([*listed(merged[key]), *listed(value)]))
        elif key == "type":
            merged[key] = _common_types(merged[key], value)
        elif key == "enum":
            merged[key] = [item for item in listed(merged[key]) if item in listed(value)] or value
        elif key in ("anyOf", "oneOf"):
            # Two sets of alternatives at once are more than a model can say: any further property is admitted.
            merged["additionalProperties"] = True
    return merged


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list[Any]:
    """The value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def _merge_properties(first: Mapping[str, Any], second: Mapping[str, Any]) -> Mapping[str, Any]:
    merged = dict(first)
    for name, schema in second.items():
        merged[name] = _both(merged[name], schema) if name in merged else schema
    return merged


def _both(first: object, second: object) -> object:
    if first is second or second is True or second == {}:
        return first
    if first is True or first == {}:
        return second
    # Both as parts, so that each keeps its identity: a schema that contains itself is recognised by it.
    return {"allOf": [first, second]}


def _common_types(first: object, second: object) -> list[str] | object:
    ours = [first] if isinstance(first, str) else listed(first)
    theirs = [second] if isinstance(second, str) else listed(second)
    common = [name for name in ours if name in theirs]
    if "integer" not in common and {"integer", "number"} <= {*ours, *theirs}:
        common.append("integer")
    return common or first
