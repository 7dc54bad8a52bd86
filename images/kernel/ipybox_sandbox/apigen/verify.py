"""The last look at a generated module before it is written: it consists of what a generated module consists of.

Nothing here knows how the source was made. Statements, names, calls and imports are held against short lists, so that
no text of an upstream can have become code by whatever mistake in the parts before.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_IMPORTED = {
    "__future__": {"annotations"},
    "datetime": {"date", "datetime"},
    "typing": {"Annotated", "Any", "List", "Literal", "Optional", "Union"},
    "uuid": {"UUID"},
    "pydantic": {"BaseModel", "ConfigDict", "Field", "RootModel"},
    "ipybox_sandbox.toolapi": {"ToolText", "arun_tool", "is_none", "run_tool"},
}
_BUILTINS = {"str", "int", "float", "bool", "list", "dict", "params"}
_FIELD_ARGUMENTS = {
    "description",
    "validation_alias",
    "serialization_alias",
    "ge",
    "gt",
    "le",
    "lt",
    "multiple_of",
    "min_length",
    "max_length",
    "pattern",
    "exclude_if",
}
_EXPRESSIONS = (
    ast.Name,
    ast.Constant,
    ast.Subscript,
    ast.Tuple,
    ast.List,
    ast.Dict,
    ast.BinOp,
    ast.BitOr,
    ast.UnaryOp,
    ast.USub,
    ast.Load,
)


class UnexpectedCodeError(Exception):
    """The source holds something that no generated module holds."""


def verify_module(source: str, *, server: str, tool: str) -> None:
    """Raises UnexpectedCodeError unless the source is a docstring, known imports, models, `run` and `arun`."""
    tree = ast.parse(source)
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    names = _BUILTINS | classes | {name for imported in _IMPORTED.values() for name in imported}
    functions = []
    for position, statement in enumerate(tree.body):
        match statement:
            case ast.Expr(value=ast.Constant(value=str())) if position == 0:
                pass
            case ast.ImportFrom(module=str(module), names=aliases, level=0) if module in _IMPORTED:
                _expect(all(a.asname is None and a.name in _IMPORTED[module] for a in aliases), statement)
            case ast.ClassDef():
                _verify_class(statement, names)
            case ast.Expr(
                value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="model_rebuild"), args=[], keywords=[])
            ):
                _expect(name in classes, statement)
            case ast.FunctionDef(name="run") | ast.AsyncFunctionDef(name="arun"):
                functions.append(statement.name)
                _verify_function(statement, names, server, tool)
            case _:
                _expect(False, statement)
    _expect(functions == ["run", "arun"], tree)


def _verify_class(node: ast.ClassDef, names: set[str]) -> None:
    _expect(not node.decorator_list and not node.keywords and len(node.bases) == 1, node)
    match node.bases[0]:
        case ast.Name(id="BaseModel"):
            pass
        case ast.Subscript(value=ast.Name(id="RootModel"), slice=content):
            _verify_expression(content, names)
        case _:
            _expect(False, node)
    for statement in node.body:
        match statement:
            case ast.Pass() | ast.Expr(value=ast.Constant(value=str())):
                pass
            case ast.Assign(
                targets=[ast.Name(id="model_config")], value=ast.Call(func=ast.Name(id="ConfigDict")) as call
            ):
                _expect(not call.args and {k.arg for k in call.keywords} == {"extra", "populate_by_name"}, call)
                _expect(all(isinstance(k.value, ast.Constant) for k in call.keywords), call)
            case ast.AnnAssign(target=ast.Name(id="__pydantic_extra__"), annotation=annotation, value=value):
                _verify_extra(annotation, names)
                _expect(value is not None and ast.unparse(value) == "Field(init=False)", statement)
            case ast.AnnAssign(target=ast.Name(), annotation=annotation, value=value, simple=1):
                _verify_annotation(annotation, names)
                if value is not None:
                    _verify_expression(value, set())
            case _:
                _expect(False, statement)


def _verify_extra(node: ast.expr, names: set[str]) -> None:
    match node:
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, value])):
            _verify_annotation(key, names)
            _verify_expression(value, names)
        case _:
            _expect(False, node)


def _verify_annotation(node: ast.expr, names: set[str]) -> None:
    match node:
        case ast.Subscript(
            value=ast.Name(id="Annotated"),
            slice=ast.Tuple(elts=[inner, ast.Call(func=ast.Name(id="Field"), args=[], keywords=keywords)]),
        ):
            _verify_expression(inner, names)
            for keyword in keywords:
                _expect(keyword.arg in _FIELD_ARGUMENTS, node)
                _verify_expression(keyword.value, {"is_none"})
        case _:
            _verify_expression(node, names)


def _verify_function(node: ast.FunctionDef | ast.AsyncFunctionDef, names: set[str], server: str, tool: str) -> None:
    _expect(not node.decorator_list and node.returns is not None, node)
    _expect(ast.unparse(node.args) == "params: Params", node)
    _verify_expression(node.returns or node.args.args[0].annotation or ast.Name(id=""), names)
    _expect(len(node.body) == 2 and ast.get_docstring(node) is not None, node)
    match node.body[1]:
        case ast.Return(value=ast.Call(func=ast.Name(id="run_tool")) as call) if node.name == "run":
            pass
        case ast.Return(value=ast.Await(value=ast.Call(func=ast.Name(id="arun_tool")) as call)) if node.name == "arun":
            pass
        case _:
            raise UnexpectedCodeError(f"line {node.lineno}: the body of {node.name}")
    match call:
        case ast.Call(
            args=[ast.Constant(value=first), ast.Constant(value=second), ast.Name(id="params"), *rest], keywords=[]
        ):
            _expect((first, second) == (server, tool), call)
            _expect([ast.unparse(argument) for argument in rest] in ([], ["Result"]), call)
        case _:
            _expect(False, call)


def _verify_expression(node: ast.expr, names: set[str]) -> None:
    for part in _walk(node):
        _expect(isinstance(part, _EXPRESSIONS), node)
        _expect(not isinstance(part, ast.Name) or part.id in names, node)
        _expect(not isinstance(part, ast.Constant) or part.value is not Ellipsis, node)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    return ast.walk(node)


def _expect(condition: bool, node: ast.AST) -> None:
    if not condition:
        raise UnexpectedCodeError(f"line {getattr(node, 'lineno', 0)}: unexpected {type(node).__name__}")
