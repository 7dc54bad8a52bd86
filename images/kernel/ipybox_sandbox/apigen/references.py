"""References and `allOf`: within the schema they are followed and merged, out of it never."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from ipybox_sandbox.apigen.keywords import ANNOTATIONS, subschemas
from ipybox_sandbox.apigen.merging import listed, merge

MAX_CHAIN = 40
"""References that lead to references."""


class References:
    """Resolves one schema's references. `note` is told why a part stays untyped, `spend` of each merge."""

    def __init__(self, root: object, note: Callable[[str], None], spend: Callable[[int], None]) -> None:
        self._root = root
        self._note = note
        self._spend = spend
        self._flats: dict[int, Mapping[str, Any]] = {}
        self._targets: dict[str, object] = {}
        self._kept_alive: list[object] = []

    def sole_target(self, schema: Mapping[str, Any]) -> tuple[object, str] | None:
        """The target where a schema is a reference and nothing else; None for its schema when it is refused."""
        structural = {key for key in schema if key not in ANNOTATIONS and not key.startswith("x-")}
        if structural == {"$ref"}:
            reference = schema["$ref"]
            return self._target(reference), str(reference).rsplit("/", 1)[-1] or "Model"
        inner = schema.get("allOf")
        if structural == {"allOf"} and isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], dict):
            return self.sole_target(inner[0])
        return None

    def followed(self, schema: object, name: str) -> tuple[object, str, bool]:
        """Where a chain of mere references ends, the last name on it, and whether null is admitted too.

        A reference has no type of its own: were it read as a part by itself, what contains itself would be wrapped.
        """
        nullable = False
        for _ in range(MAX_CHAIN):
            only = self.sole_target(schema) if isinstance(schema, dict) else None
            if only is None or not isinstance(schema, dict):
                return schema, name, nullable
            nullable = nullable or schema.get("nullable") is True
            schema, name = only
        return None, name, nullable

    def _target(self, reference: object) -> object:
        """What a reference within this schema means; None, with a note, for any other."""
        if not isinstance(reference, str):
            return self._refused("a $ref that is not a string")
        if reference not in self._targets:  # an anchor is looked for in the whole schema
            self._targets[reference] = self._found(reference)
        return self._targets[reference]

    def _found(self, reference: str) -> object:
        base, _, fragment = reference.partition("#")
        own = self._root.get("$id") if isinstance(self._root, dict) else None
        if base and base != own:
            return self._refused("a $ref out of the schema is not followed")
        if not fragment.startswith("/"):
            return self._root if fragment == "" else self._anchor(fragment)
        found: object = self._root
        for part in unquote(fragment[1:]).split("/"):
            step = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and step in found:
                found = found[step]
            elif isinstance(found, list) and step.isdecimal() and len(step) < 6 and int(step) < len(found):
                found = found[int(step)]
            else:
                return self._refused("a $ref leads nowhere")
        return found

    def _anchor(self, name: str) -> object:
        for schema in subschemas(self._root):
            if schema.get("$anchor") == name:
                return schema
        return self._refused("a $ref leads nowhere")

    def _refused(self, reason: str) -> object:
        self._note(reason)
        return None

    def flat(self, schema: object, seen: tuple[int, ...] = ()) -> Mapping[str, Any]:
        """The schema with its references and `allOf` merged in: one level, sub-schemas as they were."""
        if not isinstance(schema, dict) or id(schema) in seen or len(seen) > MAX_CHAIN:
            return {}
        if "$ref" not in schema and "allOf" not in schema:
            return schema
        if id(schema) in self._flats:
            return self._flats[id(schema)]
        self._spend(1)
        seen = (*seen, id(schema))
        flat: Mapping[str, Any] = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        if "$ref" in schema:
            flat = merge(flat, self.flat(self._target(schema["$ref"]), seen))
        for part in listed(schema.get("allOf")):
            flat = merge(flat, self.flat(part, seen))
        if len(seen) == 1:  # else a cycle may have cut it short
            self._flats[id(schema)] = flat
        self.keep(flat)
        return flat

    def keep(self, created: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns it, and keeps it alive."""
        self._kept_alive.append(created)  # identities must not be reused
        return created
