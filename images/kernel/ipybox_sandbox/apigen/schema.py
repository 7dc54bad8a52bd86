"""A tool's JSON Schemas, cut down to what a typed model can say.

What comes out holds no text of the upstream: fields, classes and enum values go by names of ours, and what they stand
for is kept beside them. Where a schema says more than a type can (conditions, `not`), the model is
wider than the schema, never narrower: the upstream judges. References are followed within the schema only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipybox_sandbox.apigen.interning import interned
from ipybox_sandbox.apigen.keywords import (
    ANNOTATIONS,
    TYPED_FORMATS,
    SchemaTooLargeError,
    branches_of,
    description_of,
    is_structural,
    is_unicode,
    subschemas,
    types_of,
)
from ipybox_sandbox.apigen.members import Members
from ipybox_sandbox.apigen.merging import listed, mapping, merge
from ipybox_sandbox.apigen.names import ClassNames, field_names
from ipybox_sandbox.apigen.nodes import Node, json_type, reference_to, size_of, union, without
from ipybox_sandbox.apigen.references import References
from ipybox_sandbox.apigen.tool_schema import EXTRA_VALUES, ClassSpec, ToolSchema, member_name

UNTYPED = object()
"""In place of a schema: any object."""

MAX_NODES = 2_000
"""Sub-schemas of one tool; the generator takes about a millisecond for each."""
MAX_DEPTH = 40
MAX_ENUM_VALUES = 500


def read_tool_schema(input_schema: object, output_schema: object = None) -> ToolSchema:
    """Definitions `Params` and, if there is an output schema, `Result`, with all that they need.

    Raises:
        SchemaTooLargeError: before much time is spent.
    """
    schema = ToolSchema()
    schemas = [input_schema] if output_schema is None else [input_schema, output_schema]
    properties = _property_names(schemas)
    input_schema, output_schema = interned(input_schema), interned(output_schema)
    classes = ClassNames(avoid=properties)
    _Reader(input_schema, schema, classes, _format_types(input_schema), is_result=False).read("Params")
    if output_schema is not None:
        _Reader(output_schema, schema, classes, frozenset(), is_result=True).read("Result")
    return schema


class _Reader:
    """Reads one of the two schemas of a tool."""

    def __init__(
        self, root: object, into: ToolSchema, classes: ClassNames, reserved: frozenset[str], *, is_result: bool
    ) -> None:
        self._root = root
        self._into = into
        self._classes = classes
        self._reserved = reserved
        self._is_result = is_result
        self._spent = 0
        self._depth = 0
        # Sub-schemas by identity: what was read, what is being read, and what turned out to contain itself.
        self._read: dict[int, Node] = {}
        self._reading: set[int] = set()
        self._recursive: dict[int, str] = {}
        self._references = References(root, into.note, self._spend)
        self._members = Members(self._references, into.enum_value, is_result=is_result)

    def read(self, name: str) -> None:
        if self._root is UNTYPED:
            self._into.definitions[name] = {"type": "object", "additionalProperties": {}}
            return
        flat = self._references.flat({"additionalProperties": False} if self._root is False else self._root)
        is_object = set(types_of(flat)) <= {"object", "null"}
        if is_object and not branches_of(flat) and "enum" not in flat and "const" not in flat:
            self._reading.add(id(self._root))
            self._recursive[id(self._root)] = name
            self._class(flat, name)
        else:
            self._into.definitions[name] = self._node(self._root, name)

    # --- one node ---

    def _node(self, schema: object, hint: str) -> Node:
        schema, hint, nullable = self._references.followed(schema, hint)
        if not isinstance(schema, dict):
            return {}
        node = self._followed_node(schema, hint)
        return union([node, {"type": "null"}]) if nullable else node

    def _followed_node(self, schema: Mapping[str, Any], hint: str) -> Node:
        key = id(schema)
        if key in self._read:
            # Written out again wherever it is used, but for what has a definition.
            self._spend(size_of(self._read[key], limit=MAX_NODES))
            return self._read[key]
        if key in self._reading:
            name = self._recursive.get(key) or self._recursive.setdefault(key, self._classes.fresh(hint))
            return reference_to(name)
        if self._depth >= MAX_DEPTH:
            self._into.note(f"parts nested deeper than {MAX_DEPTH} levels are untyped")
            return {}
        return self._new_node(schema, key, hint)

    def _new_node(self, schema: Mapping[str, Any], key: int, hint: str) -> Node:
        self._spend(1)
        self._reading.add(key)
        self._depth += 1
        node = self._shape(schema, hint)
        self._depth -= 1
        self._reading.discard(key)
        alias = self._recursive.get(key)
        if alias is not None and alias not in self._into.classes:
            self._into.definitions[alias] = without(node, alias)
            node = reference_to(alias)
        self._read[key] = node
        return node

    def _shape(self, schema: Mapping[str, Any], hint: str) -> Node:
        flat = self._references.flat(schema)
        nullable = flat.get("nullable") is True
        branches = branches_of(flat)
        if "const" in flat or isinstance(flat.get("enum"), list):
            node = self._enum([flat["const"]] if "const" in flat else flat["enum"])
        elif branches:
            base = {key: value for key, value in flat.items() if key not in ("anyOf", "oneOf", "nullable")}
            nodes = [self._node(self._references.keep(self._combined(base, branch)), hint) for branch in branches]
            node = union(nodes)
        else:
            types = types_of(flat)
            if types == ["object"] and not nullable and self._members.properties(flat):
                # From here on a reference to this schema is a reference to the class, whose name it may have given.
                name = self._recursive.get(id(schema)) or self._classes.fresh(hint)
                self._recursive[id(schema)] = name
                return self._class(flat, name)
            node = union([self._typed(kind, flat, hint) for kind in types])
        return union([node, {"type": "null"}]) if nullable else node

    def _typed(self, kind: str, flat: Mapping[str, Any], hint: str) -> Node:
        if kind == "object":
            return self._object(flat, hint)
        if kind == "array":
            return {"type": "array", "items": self._items(flat, f"{hint}Item")}
        if kind == "string" and flat.get("format") in TYPED_FORMATS and not self._is_result:
            # As text they are sent as written; a datetime, date or UUID is sent in ISO form.
            return {"anyOf": [{"type": "string", "format": flat["format"]}, {"type": "string"}]}
        return {"type": kind}

    def _items(self, flat: Mapping[str, Any], hint: str) -> Node:
        """What an element may be, wherever it stands: a tuple is a list of all that its places admit."""
        older = isinstance(flat.get("items"), list)
        places = flat["items"] if older else flat.get("prefixItems")
        if not isinstance(places, list):
            return self._node(flat.get("items"), hint)
        most = flat.get("maxItems")
        is_full = isinstance(most, int) and most <= len(places)
        rest = flat.get("additionalItems" if older else "items", not is_full)
        return union([self._node(schema, hint) for schema in [*places, rest] if schema is not False])

    def _object(self, flat: Mapping[str, Any], hint: str) -> Node:
        if self._members.properties(flat):
            return self._class(flat, self._classes.fresh(hint))
        values = self._node(self._members.extra_values(flat), f"{hint}Value")
        return {"type": "object", "additionalProperties": values}

    def _class(self, flat: Mapping[str, Any], name: str) -> Node:
        properties = self._members.properties(flat)
        spec = ClassSpec(description_of(flat), self._members.extra(flat), {})
        self._into.classes[name] = spec
        required = {key for key in listed(flat.get("required")) if isinstance(key, str)}
        nodes: dict[str, Node] = {}
        if not all(map(is_unicode, properties)):
            self._into.note("properties whose names are no Unicode text are left out")
            properties, spec.extra = {name: properties[name] for name in properties if is_unicode(name)}, "allow"
        extra_values = {} if self._is_result else self._node(self._members.extra_values(flat), f"{name}Value")
        spec.extra_names = self._members.extra_names(flat)
        if extra_values or spec.extra_names:
            spec.types_extra = True
            nodes[EXTRA_VALUES] = {"type": "object", "additionalProperties": extra_values}
        for wire, python in field_names(properties, also_reserved=self._reserved).items():
            if properties[wire] is not False:
                node = nodes[member_name(len(spec.fields))] = self._node(properties[wire], wire)
                spec.fields[python] = self._members.field(wire, properties[wire], node, wire in required)
        self._into.definitions[name] = {
            "type": "object",
            "properties": nodes,
            # Whether a field may be left out is said when the source is written.
            "required": list(nodes),
            "additionalProperties": spec.extra == "allow",
        }
        return reference_to(name)

    def _combined(self, base: Mapping[str, Any], branch: Mapping[str, Any]) -> Mapping[str, Any]:
        if not any(is_structural({key: value}) for key, value in base.items()):
            return branch
        return merge(
            self._references.flat(branch), {key: value for key, value in base.items() if key not in ANNOTATIONS}
        )

    def _enum(self, values: list[Any]) -> Node:
        nulls = [{"type": "null"}] if None in values else []
        others = [value for value in values if value is not None]
        if not others:
            return {"type": "null"}
        plain = all(isinstance(value, str | int) for value in others)
        if not plain or len(others) > MAX_ENUM_VALUES or not all(map(is_unicode, others)):
            return union([*({"type": kind} for kind in dict.fromkeys(map(json_type, others))), *nulls])
        different = {(type(value), value): value for value in others}.values()  # 1 and true are equal in Python
        tokens = [self._into.enum_token(value) for value in different]
        self._spend(len(tokens) // 10)
        return union([{"enum": tokens}, *nulls])

    def _spend(self, nodes: int) -> None:
        self._spent += nodes
        if self._spent > MAX_NODES:
            raise SchemaTooLargeError(f"the schema has more than {MAX_NODES:,} parts")


def _property_names(schemas: list[object]) -> set[str]:
    """All of them, wherever they are."""
    names: set[str] = set()
    for schema in schemas:
        for part in subschemas(schema):
            names.update(mapping(part.get("properties")))
            names.update(key for key in listed(part.get("required")) if isinstance(key, str))
    return names


def _format_types(schema: object) -> frozenset[str]:
    formats = (part.get("format") for part in subschemas(schema))
    return frozenset(TYPED_FORMATS[name] for name in formats if isinstance(name, str) and name in TYPED_FORMATS)
