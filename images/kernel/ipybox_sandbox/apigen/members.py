"""What the members of an object are beside their types: which there are, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ipybox_sandbox.apigen.constraints import constraints_of, pattern_works
from ipybox_sandbox.apigen.keywords import TYPED_FORMATS, branches_of, description_of, is_short, short
from ipybox_sandbox.apigen.merging import listed, mapping
from ipybox_sandbox.apigen.nodes import Node, alternatives, fits
from ipybox_sandbox.apigen.references import References
from ipybox_sandbox.apigen.tool_schema import Extra, FieldSpec


class Members:
    """Reads the members of objects of one schema, whose references and enum values are known elsewhere."""

    def __init__(self, references: References, enum_value: Callable[[str], object], *, is_result: bool) -> None:
        self._references = references
        self._enum_value = enum_value
        self._is_result = is_result

    def properties(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Properties, with those that are only required or only mentioned in a condition."""
        properties = dict(mapping(flat.get("properties")))
        conditional = [
            flat.get("if"),
            flat.get("then"),
            flat.get("else"),
            *mapping(flat.get("dependentSchemas")).values(),
        ]
        for schema in conditional:
            for key, value in mapping(self._references.flat(schema).get("properties")).items():
                properties.setdefault(key, {} if flat.get("if") is schema else value)
        for key in listed(flat.get("required")):
            if isinstance(key, str):
                properties.setdefault(key, {})
        return properties

    def extra(self, flat: Mapping[str, Any]) -> Extra:
        """Whether an object may have members that its schema does not name."""
        if self._is_result:
            return "allow"
        if mapping(flat.get("patternProperties")):
            return "allow"
        stated = flat.get("additionalProperties", flat.get("unevaluatedProperties"))
        if stated is None:
            # Nothing is said about its content, so anything may be meant; else an unknown name is taken for a typo.
            return "forbid" if "properties" in flat else "allow"
        return "forbid" if stated is False else "allow"

    def extra_values(self, flat: Mapping[str, Any]) -> Mapping[str, Any]:
        """Schema of the members that an object does not name; empty where they may be anything."""
        patterns = mapping(flat.get("patternProperties"))
        if not patterns:
            return mapping(flat.get("additionalProperties"))
        if not _is_closed(flat):
            return {}
        schemas = [schema for schema in patterns.values() if schema is not False]
        alternatives = {"anyOf": [schema if isinstance(schema, dict) else {} for schema in schemas]}
        return self._references.keep(alternatives) if schemas else {}

    def extra_names(self, flat: Mapping[str, Any]) -> str | None:
        """A pattern of the names of these members in an object of `Params`; None where they may have any."""
        if self._is_result or not _is_closed(flat):
            return None
        admitted = [name for name, schema in mapping(flat.get("patternProperties")).items() if schema is not False]
        pattern = "|".join(admitted if len(admitted) == 1 else [f"(?:{name})" for name in admitted])
        return pattern if admitted and all(map(pattern_works, [*admitted, pattern])) else None

    def field(self, wire: str, schema: object, node: Node, required: bool) -> FieldSpec:
        """All that is known of a member `wire` whose type is `node`."""
        flat = self._references.flat(schema)
        spec = FieldSpec(wire, required, description_of(flat))
        kinds = {str(branch.get("type")) for branch in alternatives(node)} - {"null"}
        if len(kinds) == 1 and not self._is_result and not any("format" in branch for branch in alternatives(node)):
            spec.constraints = constraints_of(kinds.pop(), flat)
        remarks = list(self._remarks(flat, node))
        if "default" in flat:
            if required or not fits(node, flat["default"], self._enum_value) or not is_short(flat["default"]):
                remarks.append(f"default: {short(flat['default'])}")
            else:
                spec.default = flat["default"]
        if remarks:
            spec.description = f"{spec.description} ({'; '.join(remarks)})".strip()
        spec.omit_none = not (required or self._is_result or fits(node, None, self._enum_value))
        return spec

    def _remarks(self, flat: Mapping[str, Any], node: Node) -> Iterator[str]:
        """What the type does not say."""
        if isinstance(flat.get("format"), str) and (self._is_result or flat["format"] not in TYPED_FORMATS):
            yield f"format: {short(flat['format'])}"
        pattern = flat.get("pattern")
        if isinstance(pattern, str) and not self._is_result and not pattern_works(pattern):
            yield f"pattern: {short(pattern)}"
        if isinstance(flat.get("enum"), list) and not any("enum" in branch for branch in alternatives(node)):
            yield f"one of: {short(flat['enum'])}"
        if flat.get("deprecated") is True:
            yield "deprecated"
        for branch in branches_of(flat):
            inner = self._references.flat(branch)
            text = description_of(inner) or inner.get("title")
            if "const" in inner and isinstance(text, str):
                yield f"{short(inner['const'])}: {short(text)}"


def _is_closed(flat: Mapping[str, Any]) -> bool:
    """Whether nothing is admitted but what the schema names, or has a pattern for."""
    return flat.get("additionalProperties", flat.get("unevaluatedProperties")) is False
