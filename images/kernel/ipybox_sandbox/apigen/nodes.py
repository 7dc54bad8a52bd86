"""Nodes of the document for the generator: a small, regular kind of JSON Schema.

A node is `{}` (anything), a type with `items` or `additionalProperties` where it needs them, an `enum` of tokens, a
reference to a definition, or an `anyOf` of at least two of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Node = dict[str, Any]

DEFINITIONS = "#/$defs/"
"""How references in the document begin."""


def reference_to(name: str) -> Node:
    return {"$ref": DEFINITIONS + name}


def without(node: Node, alias: str) -> Node:
    """A definition that is not directly itself."""
    own = reference_to(alias)
    if node == own:
        return {}
    return union([branch for branch in node["anyOf"] if branch != own]) if "anyOf" in node else node


def union(nodes: list[Node]) -> Node:
    branches: list[Node] = []
    for node in nodes:
        if not node:
            return {}
        branches.extend(branch for branch in node.get("anyOf", [node]) if branch not in branches)
    tokens = [token for branch in branches for token in branch.get("enum", [])]
    merged = [branch for branch in branches if "enum" not in branch]
    if tokens:
        merged.insert(0, {"enum": list(dict.fromkeys(tokens))})
    return merged[0] if len(merged) == 1 else {"anyOf": merged} if merged else {}


def alternatives(node: Node) -> list[Node]:
    branches: list[Node] = node.get("anyOf", [node])
    return branches


def json_type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return names[type(value)]


def size_of(node: Node, *, limit: int) -> int:
    """How many nodes there are in it, definitions it refers to left out; counting ends beyond `limit`."""
    stack, count = [node], 0
    while stack and count <= limit:
        part = stack.pop()
        count += 1
        stack.extend(part.get("anyOf", []))
        stack.extend(part[key] for key in ("items", "additionalProperties") if isinstance(part.get(key), dict))
    return count


def fits(node: Node, value: object, enum_value: Callable[[str], object]) -> bool:
    """Whether the value is one that the type admits as it stands."""
    if not node:
        return True
    if "anyOf" in node:
        return any(fits(branch, value, enum_value) for branch in node["anyOf"])
    if "enum" in node:
        admitted = map(enum_value, node["enum"])
        return any(type(known) is type(value) and known == value for known in admitted)
    if node.get("type") == "array":
        return isinstance(value, list) and all(fits(node["items"], item, enum_value) for item in value)
    if node.get("type") == "object":
        inner = node.get("additionalProperties", {})
        return isinstance(value, dict) and all(fits(inner, item, enum_value) for item in value.values())
    if "$ref" in node or "format" in node:
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return node["type"] == json_type(value) or (node["type"] == "number" and json_type(value) == "integer")
