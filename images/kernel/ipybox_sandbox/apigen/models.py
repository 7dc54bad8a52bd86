"""datamodel-code-generator makes classes of a tool's schema; only what is understood of its answer is taken over.

The document it gets holds names of ours only, and of what it writes nothing is used but the bare types: they are
parsed, checked node by node against a short list, and printed again with the documentation of the schema.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from datamodel_code_generator.enums import DataModelType
from datamodel_code_generator.format import DatetimeClassType, PythonVersion
from datamodel_code_generator.model import get_data_model_types
from datamodel_code_generator.parser import LiteralType
from datamodel_code_generator.parser.jsonschema import JsonSchemaParser

from ipybox_sandbox.apigen.nodes import DEFINITIONS
from ipybox_sandbox.apigen.text import docstring, literal
from ipybox_sandbox.apigen.tool_schema import EXTRA_VALUES, NO_DEFAULT, ClassSpec, FieldSpec, ToolSchema, member_name

_ROOT = "Document"
_LINE_CHARS = 110
_PLAIN_TYPES = frozenset(["str", "int", "float", "bool", "Any", "datetime", "date", "UUID"])
_GENERIC_TYPES = frozenset(["list", "dict", "Optional", "Union"])
_TYPES = get_data_model_types(
    data_model_type=DataModelType.PydanticV2BaseModel, target_python_version=PythonVersion.PY_311
)


class UnmodelledError(Exception):
    """The generator's answer is not of the kind that is taken over."""


def render_models(schemas: Sequence[ToolSchema]) -> list[str]:
    """Source of each tool's classes, `Params`, perhaps `Result` and what they need, without imports.

    Tools are taken together, because most of what the generator does it does once a document.

    Raises:
        Exception: of whatever kind the generator raises; UnmodelledError for an answer that is not understood.
    """
    prefixes = [f"Tool{index}Class" for index in range(len(schemas))]
    document = {
        prefix + name: _prefixed(node, prefix)
        for prefix, schema in zip(prefixes, schemas, strict=True)
        for name, node in schema.definitions.items()
    }
    tree = ast.parse(_generate(document))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name != _ROOT]
    if sorted(node.name for node in classes) != sorted(document):
        raise UnmodelledError("the generator's classes are not those of the schema")
    rebuilt = [name for name in map(_rebuilt_class, tree.body) if name is not None]
    return [_Printer(schema, prefix).source(classes, rebuilt) for prefix, schema in zip(prefixes, schemas, strict=True)]


def _prefixed(node: Any, prefix: str) -> Any:
    """The node with its references going to the prefixed definitions."""
    if isinstance(node, dict):
        return {key: _prefixed(value, prefix) for key, value in node.items()}
    if isinstance(node, list):
        return [_prefixed(value, prefix) for value in node]
    if isinstance(node, str) and node.startswith(DEFINITIONS):
        return f"{DEFINITIONS}{prefix}{node.removeprefix(DEFINITIONS)}"
    return node


def _generate(definitions: Mapping[str, object]) -> str:
    parser = JsonSchemaParser(
        source=json.dumps({"$defs": definitions}),
        class_name=_ROOT,
        data_model_type=_TYPES.data_model,
        data_model_root_type=_TYPES.root_model,
        data_model_field_type=_TYPES.field_model,
        data_type_manager_type=_TYPES.data_type_manager,
        dump_resolve_reference_action=_TYPES.dump_resolve_reference_action,
        target_python_version=PythonVersion.PY_311,
        target_datetime_class=DatetimeClassType.Datetime,
        use_annotated=True,
        field_constraints=True,
        use_union_operator=True,
        use_standard_collections=True,
        enum_field_as_literal=LiteralType.All,
        formatters=[],
    )
    source = parser.parse()
    if not isinstance(source, str):
        raise UnmodelledError("the generator made more than one module")
    return source


def _rebuilt_class(statement: ast.stmt) -> str | None:
    """`X` of a statement `X.model_rebuild()`, needed where classes refer to later ones."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="model_rebuild"))):
            return name
        case _:
            return None


class _Printer:
    """Prints classes: types as the generator has them, everything else as the schema has it."""

    def __init__(self, schema: ToolSchema, prefix: str) -> None:
        self._schema = schema
        self._names = {prefix + name: name for name in schema.definitions}
        self._types = {name: name for name in _PLAIN_TYPES} | self._names
        self._list = "list"

    def source(self, classes: Sequence[ast.ClassDef], rebuilt: Sequence[str]) -> str:
        own = [self._class(node, self._names[node.name]) for node in classes if node.name in self._names]
        calls = [f"{self._names[name]}.model_rebuild()" for name in rebuilt if name in self._names]
        return "\n\n\n".join([*own, *(["\n".join(calls)] if calls else [])])

    def _class(self, node: ast.ClassDef, name: str) -> str:
        self._list = "list"
        spec = self._schema.classes.get(name)
        return self._root_model(node, name) if spec is None else self._model(node, name, spec)

    def _root_model(self, node: ast.ClassDef, name: str) -> str:
        match node.bases:
            case [ast.Subscript(value=ast.Name(id="RootModel"), slice=content)]:
                # A base is evaluated at once, so that names of later classes stay quoted.
                return f"class {name}(RootModel[{self._type(content)}]):\n    pass"
            case [ast.Name(id=base)] if base in self._names:
                return f"class {name}(RootModel[{self._names[base]}]):\n    pass"
            case _:
                raise UnmodelledError("an unknown base")

    def _model(self, node: ast.ClassDef, class_name: str, spec: ClassSpec) -> str:
        match node.bases:
            case [ast.Name(id="BaseModel")]:
                pass
            case _:
                raise UnmodelledError("an unknown base")
        types = {
            statement.target.id: statement.annotation
            for statement in node.body
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        }
        members = {name: member_name(position) for position, name in enumerate(spec.fields)}
        if types.keys() != {*members.values(), *([EXTRA_VALUES] if spec.types_extra else [])}:
            raise UnmodelledError("the fields of a class are not those of the schema")
        # A field of that name would be what `list` means in the annotations of its class.
        self._list = "List" if "list" in spec.fields else "list"
        config = f'model_config = ConfigDict(extra="{spec.extra}", populate_by_name=True)'
        fields = [_field_source(name, self._type(types[members[name]]), field) for name, field in spec.fields.items()]
        if spec.types_extra:
            # pydantic's own name for them; with `init=False` type checkers don't take it for an argument.
            content = self._type(types[EXTRA_VALUES])
            if spec.extra_names is not None:
                key = f"Annotated[str, Field(pattern={literal(spec.extra_names)})]"
                content = f"dict[{key}, {content.removeprefix('dict[str, ')}"
            extra = f"__pydantic_extra__: {content} = Field(init=False)"
            fields.append(f"{extra}  # pyright: ignore[reportIncompatibleVariableOverride]")
        documentation = [docstring(spec.description, indent="    "), ""] if spec.description else []
        body = [*documentation, config, *([""] if fields else []), *fields]
        return "\n".join([f"class {class_name}(BaseModel):", *(f"    {line}" if line else "" for line in body)])

    def _type(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name) if name in self._types:
                return self._types[name]
            case ast.Constant(value=None):
                return "None"
            case ast.Constant(value=str(name)) if name in self._types:
                return literal(self._types[name])
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return f"{self._type(left)} | {self._type(right)}"
            case ast.Subscript(value=ast.Name(id="Literal"), slice=values):
                return f"Literal[{', '.join(map(self._enum_value, _elements(values)))}]"
            case ast.Subscript(value=ast.Name(id=generic), slice=arguments) if generic in _GENERIC_TYPES:
                name = self._list if generic == "list" else generic
                return f"{name}[{', '.join(map(self._type, _elements(arguments)))}]"
            case _:
                raise UnmodelledError(f"unknown type {ast.unparse(node)[:100]}")

    def _enum_value(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=str(token)):
                return literal(self._schema.enum_value(token))
            case _:
                raise UnmodelledError(f"unknown literal {ast.unparse(node)[:100]}")


def _elements(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _field_source(name: str, annotation: str, spec: FieldSpec) -> str:
    default = ""
    if not spec.required:
        default = f" = {literal(None if spec.default is NO_DEFAULT else spec.default)}"
        if default == " = None" and annotation != "Any" and not annotation.endswith("None"):
            annotation += " | None"
    arguments = dict(_field_arguments(name, spec))
    if not arguments:
        return f"{name}: {annotation}{default}"
    source = ", ".join(f"{key}={value}" for key, value in arguments.items())
    line = f"{name}: Annotated[{annotation}, Field({source})]{default}"
    if len(line) <= _LINE_CHARS:
        return line
    lines = [f"        {key}={value}," for key, value in arguments.items()]
    return "\n    ".join([f"{name}: Annotated[", f"    {annotation},", "    Field(", *lines, "    ),", f"]{default}"])


def _field_arguments(name: str, spec: FieldSpec) -> list[tuple[str, str]]:
    arguments: list[tuple[str, str]] = []
    if spec.description:
        arguments.append(("description", literal(spec.description)))
    if name != spec.wire:
        # Not `alias`: type checkers would then refuse the field's own name as an argument.
        arguments += [("validation_alias", literal(spec.wire)), ("serialization_alias", literal(spec.wire))]
    arguments += [(key, literal(value)) for key, value in spec.constraints.items()]
    if spec.omit_none and spec.default is NO_DEFAULT:
        arguments.append(("exclude_if", "is_none"))
    return arguments
