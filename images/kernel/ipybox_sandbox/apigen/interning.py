"""Equal parts of a schema as one object: what a schema writes out twice is read once, and is one class."""

from __future__ import annotations

from collections.abc import Hashable


def interned(schema: object) -> object:
    """A copy of a JSON value in which equal parts are identical. What is no JSON value stays as it is."""
    return _interned(schema, {})


def _interned(value: object, known: dict[Hashable, object]) -> object:
    # Loops, not comprehensions, whose frames would halve the depth that can be read.
    if isinstance(value, dict):
        members: dict[str, object] = {}
        for name, item in value.items():
            members[name] = _interned(item, known)
        return known.setdefault(("object", *((name, _mark(item)) for name, item in members.items())), members)
    if isinstance(value, list):
        elements: list[object] = []
        for item in value:
            elements.append(_interned(item, known))
        return known.setdefault(("array", *map(_mark, elements)), elements)
    return value


def _mark(value: object) -> Hashable:
    """The same for two values only if they are equal; parts are interned already."""
    if isinstance(value, dict | list):
        return id(value)
    return type(value), value  # 1, 1.0 and True are different things in JSON
