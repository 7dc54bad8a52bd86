"""Bounds of a schema as keyword arguments of pydantic's Field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, core_schema

_SAFE_INTEGER = 2**53 - 1
_MAX_PATTERN_CHARS = 500


def constraints_of(kind: str, schema: Mapping[str, Any]) -> dict[str, object]:
    """The bounds that a value of JSON type `kind` must keep, those left out that pydantic can't check faithfully."""
    if kind in ("integer", "number"):
        return _numeric(kind, schema)
    if kind == "string":
        return _lengths(schema, "minLength", "maxLength") | _pattern(schema)
    if kind == "array":
        return _lengths(schema, "minItems", "maxItems")
    return {}


def pattern_works(pattern: str) -> bool:
    """Whether pydantic's engine, which is linear in time, reads the pattern as JavaScript and Python do."""
    if len(pattern) > _MAX_PATTERN_CHARS or any(part in pattern for part in ("&&", "--", "~~", "\\p", "\\P", "[:")):
        return False
    try:
        SchemaValidator(core_schema.str_schema(pattern=pattern))
    except (SchemaError, ValueError):
        return False
    return True


def _numeric(kind: str, schema: Mapping[str, Any]) -> dict[str, object]:
    bounds: dict[str, object] = {}
    for inclusive, exclusive, at, beyond in (
        ("minimum", "exclusiveMinimum", "ge", "gt"),
        ("maximum", "exclusiveMaximum", "le", "lt"),
    ):
        limit, strict = _bound(kind, schema.get(inclusive)), schema.get(exclusive)
        strict_limit = _bound(kind, strict)
        if limit is not None:
            # `true` is how draft 4 wrote it.
            bounds[beyond if strict is True else at] = limit
        elif strict_limit is not None:
            bounds[beyond] = strict_limit
    step = _bound(kind, schema.get("multipleOf"))
    if kind == "integer" and isinstance(step, int) and step > 1:
        bounds["multiple_of"] = step
    return bounds


def _bound(kind: str, value: object) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or abs(value) >= _SAFE_INTEGER:
        return None  # the range of a number type, which says nothing
    if kind == "integer":
        return int(value) if value == int(value) else None
    return value


def _lengths(schema: Mapping[str, Any], least: str, most: str) -> dict[str, object]:
    bounds: dict[str, object] = {}
    for key, name in ((least, "min_length"), (most, "max_length")):
        value = _bound("integer", schema.get(key))
        if value is not None and 0 <= value < 2**31 and not (name == "min_length" and value == 0):
            bounds[name] = value
    return bounds


def _pattern(schema: Mapping[str, Any]) -> dict[str, object]:
    pattern = schema.get("pattern")
    return {"pattern": pattern} if isinstance(pattern, str) and pattern_works(pattern) else {}
