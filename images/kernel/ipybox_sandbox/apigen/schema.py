"""A tool's JSON Schemas, cut down to what a typed model can say.

What comes out holds no text of the upstream: fields, classes and enum values go by names of ours, and what they stand
for is kept beside them. Where a schema says more than a type can (conditions, `not`, patterns of names), the model is
wider than the schema, never narrower: the upstream judges. References are followed within the schema only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

from ipybox_sandbox.apigen.constraints import constraints_of, pattern_works
from ipybox_sandbox.apigen.merging import listed, mapping, merge
from ipybox_sandbox.apigen.names import ClassNames, field_names
from ipybox_sandbox.apigen.text import readable

Extra = Literal["allow", "forbid"]
Node = dict[str, Any]

MAX_NODES = 2_000
"""Sub-schemas of one tool; the generator takes about a millisecond for each."""
MAX_DEPTH = 40
MAX_ENUM_VALUES = 500
MAX_DESCRIPTION_CHARS = 4_000
MAX_DEFAULT_CHARS = 1_000
"""A longer default is only described."""

DEFINITIONS = "#/$defs/"
"""How references in the document begin."""

NO_DEFAULT = object()
UNTYPED = object()
"""In place of a schema: any object."""

_ANNOTATIONS = frozenset(
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
_TYPED_FORMATS = frozenset({"date-time", "date", "uuid"})
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


@dataclass
class FieldSpec:
    """What a field of a model is beside its type."""

    wire: str
    required: bool
    description: str
    default: object = NO_DEFAULT
    constraints: Mapping[str, object] = field(default_factory=dict)
    omit_none: bool = False
    """None means unset, because the schema does not admit null."""


@dataclass
class ClassSpec:
    """What a model is beside the types of its fields."""

    description: str
    extra: Extra
    fields: dict[str, FieldSpec]


@dataclass
class ToolSchema:
    """The document for the generator, and what its names stand for."""

    definitions: dict[str, Node] = field(default_factory=dict)
    classes: dict[str, ClassSpec] = field(default_factory=dict)
    enum_values: list[str | int | bool] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Why parts are untyped."""

    def enum_token(self, value: str | int | bool) -> str:
        """A name for an enum value, to stand for it in the document."""
        self.enum_values.append(value)
        return f"value{len(self.enum_values) - 1}"

    def enum_value(self, token: str) -> str | int | bool:
        """What `enum_token` was given."""
        return self.enum_values[int(token.removeprefix("value"))]

    def note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < 5:
            self.notes.append(text)


def read_tool_schema(input_schema: object, output_schema: object = None) -> ToolSchema:
    """Definitions `Params` and, if there is an output schema, `Result`, with all that they need.

    Raises:
        SchemaTooLargeError: before much time is spent.
    """
    schema = ToolSchema()
    schemas = [input_schema] if output_schema is None else [input_schema, output_schema]
    properties, formats = _survey(schemas)
    classes = ClassNames(avoid=properties)
    reserved = frozenset({"date"}) if "date" in formats else frozenset[str]()
    _Reader(input_schema, schema, classes, reserved, is_result=False).read("Params")
    if output_schema is not None:
        _Reader(output_schema, schema, classes, reserved, is_result=True).read("Result")
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
        self._read: dict[int, tuple[Node, int]] = {}
        self._reading: set[int] = set()
        self._recursive: dict[int, str] = {}
        self._flats: dict[int, Mapping[str, Any]] = {}
        self._kept_alive: list[object] = []

    def read(self, name: str) -> None:
        if self._root is UNTYPED:
            self._into.definitions[name] = {"type": "object", "additionalProperties": {}}
            return
        flat = self._flat({"additionalProperties": False} if self._root is False else self._root)
        is_object = set(self._types(flat)) <= {"object", "null"}
        if is_object and not self._branches(flat) and "enum" not in flat and "const" not in flat:
            self._reading.add(id(self._root))
            self._recursive[id(self._root)] = name
            self._class(flat, name)
        else:
            self._into.definitions[name] = self._node(self._root, name)

    # --- one node ---

    def _node(self, schema: object, hint: str) -> Node:
        if not isinstance(schema, dict):
            return {}
        key = id(schema)
        if key in self._read:
            node, cost = self._read[key]
            self._spend(cost)
            return node
        if key in self._reading:
            name = self._recursive.get(key) or self._recursive.setdefault(key, self._classes.fresh(hint))
            return _reference_to(name)
        if self._depth >= MAX_DEPTH:
            self._into.note(f"parts nested deeper than {MAX_DEPTH} levels are untyped")
            return {}
        return self._new_node(schema, key, hint)

    def _new_node(self, schema: Mapping[str, Any], key: int, hint: str) -> Node:
        before = self._spent
        self._spend(1)
        self._reading.add(key)
        self._depth += 1
        node = self._shape(schema, hint)
        self._depth -= 1
        self._reading.discard(key)
        alias = self._recursive.get(key)
        if alias is not None and alias not in self._into.classes:
            self._into.definitions[alias] = _without(node, alias)
            node = _reference_to(alias)
        self._read[key] = (node, self._spent - before)
        return node

    def _shape(self, schema: Mapping[str, Any], hint: str) -> Node:
        only = self._sole_reference(schema)
        if only is not None:
            node = self._node(*only) if only[0] is not None else {}
            return _union([node, {"type": "null"}]) if schema.get("nullable") is True else node
        flat = self._flat(schema)
        nullable = flat.get("nullable") is True
        branches = self._branches(flat)
        if "const" in flat or isinstance(flat.get("enum"), list):
            node = self._enum([flat["const"]] if "const" in flat else flat["enum"])
        elif branches:
            base = {key: value for key, value in flat.items() if key not in ("anyOf", "oneOf", "nullable")}
            nodes = [self._node(self._keep(self._combined(base, branch)), hint) for branch in branches]
            node = _union(nodes)
        else:
            types = self._types(flat)
            if types == ["object"] and not nullable and self._properties(flat):
                # From here on a reference to this schema is a reference to the class, whose name it may have given.
                name = self._recursive.get(id(schema)) or self._classes.fresh(hint)
                self._recursive[id(schema)] = name
                return self._class(flat, name)
            node = _union([self._typed(kind, flat, hint) for kind in types])
        return _union([node, {"type": "null"}]) if nullable else node

    def _typed(self, kind: str, flat: Mapping[str, Any], hint: str) -> Node:
        if kind == "object":
            return self._object(flat, hint)
        if kind == "array":
            items = {} if "prefixItems" in flat else flat.get("items")
            return {"type": "array", "items": self._node(items, f"{hint}Item")}
        if kind == "string" and flat.get("format") in _TYPED_FORMATS and not self._is_result:
            # As text they are sent as written; a datetime, date or UUID is sent in ISO form.
            return {"anyOf": [{"type": "string", "format": flat["format"]}, {"type": "string"}]}
        return {"type": kind}

    def _object(self, flat: Mapping[str, Any], hint: str) -> Node:
        if self._properties(flat):
            return self._class(flat, self._classes.fresh(hint))
        values = flat.get("additionalProperties")
        if not isinstance(values, dict) or not values:
            return {"type": "object", "additionalProperties": {}}
        return {"type": "object", "additionalProperties": self._node(values, f"{hint}Value")}

    def _class(self, flat: Mapping[str, Any], name: str) -> Node:
        properties = self._properties(flat)
        spec = ClassSpec(_description_of(flat), self._extra(flat), {})
        self._into.classes[name] = spec
        required = {key for key in listed(flat.get("required")) if isinstance(key, str)}
        nodes: dict[str, Node] = {}
        if not all(map(_is_unicode, properties)):
            self._into.note("properties whose names are no Unicode text are left out")
            properties, spec.extra = {name: properties[name] for name in properties if _is_unicode(name)}, "allow"
        for wire, python in field_names(properties, also_reserved=self._reserved).items():
            if properties[wire] is not False:
                nodes[python] = self._node(properties[wire], wire)
                spec.fields[python] = self._field(wire, properties[wire], nodes[python], wire in required)
        self._into.definitions[name] = {
            "type": "object",
            "properties": nodes,
            # Whether a field may be left out is said when the source is written.
            "required": list(nodes),
            "additionalProperties": spec.extra == "allow",
        }
        return _reference_to(name)

    def _field(self, wire: str, schema: object, node: Node, required: bool) -> FieldSpec:
        flat = self._flat(schema)
        spec = FieldSpec(wire, required, _description_of(flat))
        kinds = {str(branch.get("type")) for branch in _alternatives(node)} - {"null"}
        if len(kinds) == 1 and not self._is_result and not any("format" in branch for branch in _alternatives(node)):
            spec.constraints = constraints_of(kinds.pop(), flat)
        remarks = list(self._remarks(flat, node))
        if "default" in flat:
            if required or not self._fits(node, flat["default"]) or not _is_short(flat["default"]):
                remarks.append(f"default: {_short(flat['default'])}")
            else:
                spec.default = flat["default"]
        if remarks:
            spec.description = f"{spec.description} ({'; '.join(remarks)})".strip()
        spec.omit_none = not (required or self._is_result or self._fits(node, None))
        return spec

    def _remarks(self, flat: Mapping[str, Any], node: Node) -> Iterator[str]:
        """What the type does not say."""
        if isinstance(flat.get("format"), str) and (self._is_result or flat["format"] not in _TYPED_FORMATS):
            yield f"format: {_short(flat['format'])}"
        pattern = flat.get("pattern")
        if isinstance(pattern, str) and not self._is_result and not pattern_works(pattern):
            yield f"pattern: {_short(pattern)}"
        if isinstance(flat.get("enum"), list) and not any("enum" in branch for branch in _alternatives(node)):
            yield f"one of: {_short(flat['enum'])}"
        if flat.get("deprecated") is True:
            yield "deprecated"
        for branch in self._branches(flat):
            inner = self._flat(branch)
            text = _description_of(inner) or inner.get("title")
            if "const" in inner and isinstance(text, str):
                yield f"{_short(inner['const'])}: {_short(text)}"

    # --- parts of a schema ---

    def _properties(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Properties, with those that are only required or only mentioned in a condition."""
        properties = dict(mapping(flat.get("properties")))
        conditional = [
            flat.get("if"),
            flat.get("then"),
            flat.get("else"),
            *mapping(flat.get("dependentSchemas")).values(),
        ]
        for schema in conditional:
            for key, value in mapping(self._flat(schema).get("properties")).items():
                properties.setdefault(key, {} if flat.get("if") is schema else value)
        for key in listed(flat.get("required")):
            if isinstance(key, str):
                properties.setdefault(key, {})
        return properties

    def _extra(self, flat: Mapping[str, Any]) -> Extra:
        if self._is_result:
            return "allow"
        if mapping(flat.get("patternProperties")):
            return "allow"
        stated = flat.get("additionalProperties", flat.get("unevaluatedProperties"))
        if stated is None:
            # Nothing is said about its content, so anything may be meant; else an unknown name is taken for a typo.
            return "forbid" if "properties" in flat else "allow"
        return "forbid" if stated is False else "allow"

    def _types(self, flat: Mapping[str, Any]) -> list[str]:
        stated = flat.get("type")
        names = stated if isinstance(stated, list) else [stated]
        types = [name for name in names if isinstance(name, str) and (name in _SCALARS or name in ("object", "array"))]
        if types or stated is not None:
            return list(dict.fromkeys(types))
        return list(dict.fromkeys(kind for key, kind in _IMPLIED_TYPES.items() if key in flat))[:1]

    def _branches(self, flat: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Alternatives that differ in more than conditions."""
        for key in ("anyOf", "oneOf"):
            branches = [branch for branch in listed(flat.get(key)) if branch is not False]
            if branches and any(isinstance(branch, dict) and _is_structural(branch) for branch in branches):
                return [branch if isinstance(branch, dict) else {} for branch in branches]
        return []

    def _combined(self, base: Mapping[str, Any], branch: Mapping[str, Any]) -> Mapping[str, Any]:
        if not any(_is_structural({key: value}) for key, value in base.items()):
            return branch
        return merge(self._flat(branch), {key: value for key, value in base.items() if key not in _ANNOTATIONS})

    def _enum(self, values: list[Any]) -> Node:
        nulls = [{"type": "null"}] if None in values else []
        others = [value for value in values if value is not None]
        if not others:
            return {"type": "null"}
        plain = all(isinstance(value, str) for value in others) or all(
            isinstance(value, int) and not isinstance(value, bool) for value in others
        )
        plain = plain or all(isinstance(value, bool) for value in others)
        if not plain or len(others) > MAX_ENUM_VALUES or not all(map(_is_unicode, others)):
            return _union([*({"type": kind} for kind in dict.fromkeys(map(_json_type, others))), *nulls])
        tokens = [self._into.enum_token(value) for value in dict.fromkeys(others)]
        self._spend(len(tokens) // 10)
        return _union([{"enum": tokens}, *nulls])

    # --- references ---

    def _sole_reference(self, schema: Mapping[str, Any]) -> tuple[object, str] | None:
        """The target where a schema is a reference and nothing else; None for its schema when it is refused."""
        structural = {key for key in schema if key not in _ANNOTATIONS and not key.startswith("x-")}
        if structural == {"$ref"}:
            reference = schema["$ref"]
            return self._target(reference), str(reference).rsplit("/", 1)[-1] or "Model"
        inner = schema.get("allOf")
        if structural == {"allOf"} and isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], dict):
            return self._sole_reference(inner[0])
        return None

    def _target(self, reference: object) -> object:
        """What a reference within this schema means; None, with a note, for any other."""
        if not isinstance(reference, str):
            return self._refused("a $ref that is not a string")
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
        for schema in _subschemas(self._root):
            if schema.get("$anchor") == name:
                return schema
        return self._refused("a $ref leads nowhere")

    def _refused(self, reason: str) -> object:
        self._into.note(reason)
        return None

    def _flat(self, schema: object, seen: tuple[int, ...] = ()) -> Mapping[str, Any]:
        """The schema with its references and `allOf` merged in: one level, sub-schemas as they were."""
        if not isinstance(schema, dict) or id(schema) in seen or len(seen) > MAX_DEPTH:
            return {}
        if "$ref" not in schema and "allOf" not in schema:
            return schema
        if id(schema) in self._flats:
            return self._flats[id(schema)]
        self._spend(1)
        seen = (*seen, id(schema))
        flat: Mapping[str, Any] = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        if "$ref" in schema:
            flat = merge(flat, self._flat(self._target(schema["$ref"]), seen))
        for part in listed(schema.get("allOf")):
            flat = merge(flat, self._flat(part, seen))
        if len(seen) == 1:  # else a cycle may have cut it short
            self._flats[id(schema)] = flat
        self._keep(flat)
        return flat

    def _fits(self, node: Node, value: object) -> bool:
        """Whether the value is one that the type admits as it stands."""
        if not node:
            return True
        if "anyOf" in node:
            return any(self._fits(branch, value) for branch in node["anyOf"])
        if "enum" in node:
            admitted = map(self._into.enum_value, node["enum"])
            return any(type(known) is type(value) and known == value for known in admitted)
        if node.get("type") == "array":
            return isinstance(value, list) and all(self._fits(node["items"], item) for item in value)
        if node.get("type") == "object":
            inner = node.get("additionalProperties", {})
            return isinstance(value, dict) and all(self._fits(inner, item) for item in value.values())
        if "$ref" in node or "format" in node:
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return node["type"] == _json_type(value) or (node["type"] == "number" and _json_type(value) == "integer")

    def _keep(self, created: Mapping[str, Any]) -> Mapping[str, Any]:
        self._kept_alive.append(created)  # identities must not be reused
        return created

    def _spend(self, nodes: int) -> None:
        self._spent += nodes
        if self._spent > MAX_NODES:
            raise SchemaTooLargeError(f"the schema has more than {MAX_NODES:,} parts")


def _survey(schemas: list[object]) -> tuple[set[str], set[str]]:
    """All property names and all formats, wherever they are."""
    properties: set[str] = set()
    formats: set[str] = set()
    for schema in schemas:
        for part in _subschemas(schema):
            properties.update(mapping(part.get("properties")))
            properties.update(key for key in listed(part.get("required")) if isinstance(key, str))
            if isinstance(part.get("format"), str):
                formats.add(part["format"])
    return properties, formats


def _subschemas(root: object) -> Iterator[Mapping[str, Any]]:
    """Every object within; raises when there are far more than a schema has."""
    stack, seen = [root], 0
    while stack:
        part = stack.pop()
        seen += 1
        if seen > 50 * MAX_NODES:
            raise SchemaTooLargeError(f"the schema has more than {50 * MAX_NODES:,} values")
        if isinstance(part, dict):
            yield part
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)


def _is_structural(schema: Mapping[str, Any]) -> bool:
    keys = {"type", "properties", "items", "prefixItems", "$ref", "enum", "const", "anyOf", "oneOf", "allOf"}
    keys |= {"additionalProperties", "patternProperties"}
    return not keys.isdisjoint(schema)


def _reference_to(name: str) -> Node:
    return {"$ref": DEFINITIONS + name}


def _without(node: Node, alias: str) -> Node:
    """A definition that is not directly itself."""
    own = _reference_to(alias)
    if node == own:
        return {}
    return _union([branch for branch in node["anyOf"] if branch != own]) if "anyOf" in node else node


def _union(nodes: list[Node]) -> Node:
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


def _alternatives(node: Node) -> list[Node]:
    branches: list[Node] = node.get("anyOf", [node])
    return branches


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return names[type(value)]


def _description_of(flat: Mapping[str, Any]) -> str:
    text = flat.get("description")
    return readable(text[:MAX_DESCRIPTION_CHARS]) if isinstance(text, str) else ""


def _is_unicode(value: object) -> bool:
    """False for text with half a surrogate pair, which JSON can hold and pydantic can't."""
    return not isinstance(value, str) or not any("\ud800" <= character <= "\udfff" for character in value)


def _is_short(value: object) -> bool:
    text = json.dumps(value, ensure_ascii=False)
    return len(text) <= MAX_DEFAULT_CHARS and _is_unicode(text)


def _short(value: object) -> str:
    text = readable(value if isinstance(value, str) else repr(value)[:1_000]).replace("\n", " ")
    return text if len(text) <= 200 else text[:199] + "…"
