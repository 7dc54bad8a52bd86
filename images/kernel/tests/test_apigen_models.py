"""What generated `Params` and `Result` accept, refuse and send."""

from __future__ import annotations

import asyncio
import datetime
import json
import pydoc
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from apigen_support import Schema, Workspace, obj, workspace_of
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from pydantic import ValidationError

from ipybox_sandbox import bridge
from ipybox_sandbox.model_help import shorten_help_of_models
from ipybox_sandbox.toolapi import ImageBlock, LinkBlock, ResourceBlock, ToolError, ToolText, arguments_of
from ipybox_sandbox.toolcontent import text_of


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    yield from workspace_of(tmp_path, monkeypatch)


def sent(workspace: Workspace, schema: Schema, *positional: Any, **arguments: Any) -> Mapping[str, Any]:
    """What arrives of these arguments at a tool of that schema."""
    module = workspace.module(schema)
    module.run(module.Params(*positional, **arguments))
    assert workspace.sent is not None
    return workspace.sent


@pytest.mark.parametrize(
    "name",
    [
        "from",
        "class",
        "my-prop",
        "schema",
        "model_config",
        "_x",
        "2nd",
        "str",
        "ünï—",
        "",
        "self",
        "json",
        "model_dump_x",
        "None",
    ],
)
def test_a_field_that_is_no_python_name_takes_both_names_and_sends_its_own(workspace: Workspace, name: str) -> None:
    module = workspace.module(obj({name: {"type": "string"}}, name))
    (field,) = module.Params.model_fields
    assert field.isidentifier()
    assert arguments_of(module.Params(**{field: "v"})) == {name: "v"}
    assert arguments_of(module.Params(**{name: "v"})) == {name: "v"}


def test_fields_whose_names_collide_stay_apart(workspace: Workspace) -> None:
    schema = obj({"a-b": {"type": "integer"}, "a_b": {"type": "integer"}, "a.b": {"type": "integer"}})
    assert sent(workspace, schema, **{"a-b": 1, "a_b": 2, "a.b": 3}) == {"a-b": 1, "a_b": 2, "a.b": 3}
    module = workspace.module(schema)
    assert list(module.Params.model_fields) == ["a_b_2", "a_b", "a_b_3"]


def test_a_field_called_like_what_its_module_uses_keeps_its_name(workspace: Workspace) -> None:
    texts = {"type": "array", "items": {"type": "string"}}
    item = obj({"list": texts, "other": {"type": "array", "items": {}}}, "list")
    schema = obj({"list": {"type": "array", "items": item}, "annotations": {"type": "object"}, "Document": {}})
    value = {"list": [{"list": ["x"], "other": [1]}], "annotations": {"a": 1}, "Document": "y"}
    module = workspace.module(schema, schema)
    for model in (module.Params(**value), module.Result(**value)):
        assert (model.list[0].list, model.list[0].other) == (["x"], [1])
        assert (model.annotations, model.Document) == ({"a": 1}, "y")
    assert sent(workspace, schema, **value) == value
    with pytest.raises(ValidationError):
        module.Params(list=[{"list": [1]}])


def test_unset_fields_are_not_sent_and_defaults_only_when_set(workspace: Workspace) -> None:
    schema = obj({"q": {"type": "string"}, "n": {"type": "integer", "default": 10}, "o": {"type": "string"}}, "q")
    assert sent(workspace, schema, q="x") == {"q": "x"}
    assert sent(workspace, schema, q="x", n=10) == {"q": "x", "n": 10}
    assert workspace.module(schema).Params(q="x").n == 10
    assert "n: int = 10" in workspace.source()


def test_none_is_sent_where_the_schema_admits_null_and_means_unset_elsewhere(workspace: Workspace) -> None:
    nested = obj({"deep": {"type": "string"}})
    schema = obj(
        {
            "plain": {"type": "string"},
            "nullable": {"type": ["string", "null"]},
            "any_of": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            "openapi": {"type": "string", "nullable": True},
            "enum": {"enum": ["a", None]},
            "anything": {},
            "nested": nested,
        }
    )
    names = ["plain", "nullable", "any_of", "openapi", "enum", "anything"]
    arguments: dict[str, Any] = {**dict.fromkeys(names), "nested": {"deep": None}}
    expected = {**dict.fromkeys(names[1:]), "nested": {}}
    assert sent(workspace, schema, **arguments) == expected


def test_none_is_refused_where_the_type_excludes_it(workspace: Workspace) -> None:
    schema = obj({"required": {"type": "string"}, "defaulted": {"type": "integer", "default": 10}}, "required")
    params = workspace.module(schema).Params
    for field, kind in (("required", "string"), ("defaulted", "integer")):
        with pytest.raises(ValidationError, match=rf"{field}\n +Input should be a valid {kind} .*input_value=None"):
            params(**{"required": "x", field: None})
    assert "defaulted: int = 10" in workspace.source()


def test_a_typo_is_refused_unless_further_properties_are_admitted(workspace: Workspace) -> None:
    properties = {"query": {"type": "string"}}
    for schema in (obj(properties), obj(properties, additionalProperties=False), {"properties": properties}):
        with pytest.raises(ValidationError, match="qery"):
            workspace.module(schema).Params(qery="x")
    for admitting in (True, {}, {"type": "string"}):
        assert sent(workspace, obj(properties, additionalProperties=admitting), other="x") == {"other": "x"}
    assert sent(workspace, obj(properties, patternProperties={"^x-": {}}), **{"x-y": 1}) == {"x-y": 1}


def test_members_that_the_schema_does_not_name_have_the_type_that_it_gives_them(workspace: Workspace) -> None:
    point = obj({"from": {"type": "string"}}, required=["from"])
    schema = obj({"extra_values": {"type": "string"}}, additionalProperties={"anyOf": [{"type": "integer"}, point]})
    module = workspace.module(schema)
    assert sent(workspace, schema, extra_values="x", n=1, p={"from_": "y"}) == {
        "extra_values": "x", "n": 1, "p": {"from": "y"},
    }  # fmt: skip
    for wrong in ("many", {"from": 1}, {"from": "y", "typo": 1}):
        with pytest.raises(ValidationError, match="n"):
            module.Params(n=wrong)
    tree = obj({"name": {"type": "string"}}, additionalProperties={"$ref": "#"})
    assert sent(workspace, tree, left={"left": {"name": "x"}}) == {"left": {"left": {"name": "x"}}}
    with pytest.raises(ValidationError, match="left"):
        workspace.module(tree).Params(left={"left": 1})


def test_members_whose_names_have_a_pattern_are_the_only_further_ones_of_a_closed_schema(workspace: Workspace) -> None:
    patterns = {"^x-": {"type": "integer"}, "Id$": {"type": "string"}, "^never": False}
    closed = obj({"a": {"type": "string"}}, patternProperties=patterns, additionalProperties=False)
    values = {"a": "b", "x-n": 1, "userId": "u"}
    assert sent(workspace, closed, **values) == values
    for wrong in ({"b": 1}, {"x-n": []}, {"never": 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            workspace.module(closed).Params(**wrong)
    only_patterns = obj({}, patternProperties={"^x-": {}}, unevaluatedProperties=False)
    assert sent(workspace, only_patterns, **{"x-y": [1]}) == {"x-y": [1]}
    with pytest.raises(ValidationError, match="y-x"):
        workspace.module(only_patterns).Params(**{"y-x": 1})
    unreadable = obj({}, patternProperties={"^(?=a)b": {"type": "integer"}}, additionalProperties=False)
    assert sent(workspace, unreadable, b=1) == {"b": 1}
    inner = {"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}
    assert sent(workspace, obj({"headers": inner}), headers={"x-n": 1}) == {"headers": {"x-n": 1}}
    assert "headers: Annotated[dict[str, int] | None" in workspace.source()


@pytest.mark.parametrize("schema", [{}, True, {"type": "object"}, {"$schema": "x", "description": "y"}])
def test_a_schema_that_says_nothing_admits_anything(workspace: Workspace, schema: Schema) -> None:
    assert sent(workspace, schema, a=1, b=[2]) == {"a": 1, "b": [2]}
    assert sent(workspace, schema) == {}


def test_a_schema_that_admits_nothing_takes_no_arguments(workspace: Workspace) -> None:
    with pytest.raises(ValidationError):
        workspace.module(False).Params(a=1)


def test_enums_are_literals_that_equal_their_values(workspace: Workspace) -> None:
    schema = obj(
        {
            "s": {"enum": ["a", "b c", "q\"'\n"]},
            "n": {"enum": [1, 2]},
            "c": {"const": "x"},
            "m": {"enum": [1.5, "z", [1]]},
        }
    )
    assert sent(workspace, schema, s="q\"'\n", n=2, c="x", m=[1]) == {"s": "q\"'\n", "n": 2, "c": "x", "m": [1]}
    assert workspace.module(schema).Params(s="b c").s == "b c"
    with pytest.raises(ValidationError):
        workspace.module(schema).Params(s="d")
    assert 'Literal["a", "b c"' in workspace.source()


def test_an_enum_of_several_types_admits_its_values_alone(workspace: Workspace) -> None:
    schema = obj({"m": {"enum": ["auto", 1, True, None, "auto"]}})
    module = workspace.module(schema)
    assert 'Literal["auto", 1, True] | None' in workspace.source()
    for value in ("auto", 1, True, None):
        (arrived,) = sent(workspace, schema, m=value).values()
        assert (type(arrived), arrived) == (type(value), value)
    for wrong in ("other", 2, False):
        with pytest.raises(ValidationError, match="m"):
            module.Params(m=wrong)


def test_formats_take_python_values_and_send_text_as_written(workspace: Workspace) -> None:
    names = ["date-time", "date", "uuid", "email", "uri", "ipv4", "password", "byte", "time", "unheard-of"]
    schema = obj({name.replace("-", "_"): {"type": "string", "format": name} for name in names})
    texts = {name.replace("-", "_"): "as written" for name in names}
    assert sent(workspace, schema, **texts) == texts
    when = datetime.datetime(2025, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    values = {"date_time": when, "date": when.date(), "uuid": uuid.UUID(int=1)}
    assert sent(workspace, schema, **values) == {
        "date_time": "2025-01-02T03:04:05Z",
        "date": "2025-01-02",
        "uuid": "00000000-0000-0000-0000-000000000001",
    }


@pytest.mark.parametrize(("name", "kind"), [("date", "date"), ("datetime", "date-time"), ("UUID", "uuid")])
def test_a_field_called_like_the_type_of_a_format_gives_way_only_where_the_type_is_used(
    workspace: Workspace, name: str, kind: str
) -> None:
    plain = {"type": "string"}
    fields = workspace.module(obj({name: plain, "x": plain}), obj({name: {**plain, "format": kind}}))
    assert (set(fields.Params.model_fields), set(fields.Result.model_fields)) == ({name, "x"}, {name})
    schema = obj({name: plain, "x": {**plain, "format": kind}})
    value = {name: "a", "x": "b"}
    assert sent(workspace, schema, **value) == value
    assert set(workspace.module(schema).Params.model_fields) == {f"{name}_", "x"}


def test_bounds_are_checked_before_anything_is_sent(workspace: Workspace) -> None:
    schema = obj(
        {
            "n": {"type": "integer", "minimum": 1, "maximum": 20},
            "x": {"type": "number", "exclusiveMinimum": 0},
            "s": {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^[a-z]+$"},
            "l": {"type": "array", "items": {"type": "string", "minLength": 9}, "minItems": 1},
            "o": {"type": ["integer", "null"], "minimum": 5},
        }
    )
    params = workspace.module(schema).Params
    params(n=20, x=0.5, s="abc", l=["short"], o=None)
    for wrong in (
        {"n": 0},
        {"n": 21},
        {"x": 0},
        {"s": "a"},
        {"s": "abcd"},
        {"s": "AB"},
        {"l": []},
        {"o": 4},
        {"n": "many"},
    ):
        with pytest.raises(ValidationError):
            params(**wrong)


@pytest.mark.parametrize("pattern", ["^(?=a)b", "(", "\\p{L}", "[a&&b]", "(a)\\1", "[[:alpha:]]", "x" * 5000])
def test_a_pattern_that_cannot_be_checked_alike_is_described_instead(workspace: Workspace, pattern: str) -> None:
    assert sent(workspace, obj({"s": {"type": "string", "pattern": pattern}}), s="whatever") == {"s": "whatever"}
    assert "(pattern: " in workspace.source()


def test_recursion_through_every_kind_of_reference(workspace: Workspace) -> None:
    node = {"$ref": "#/$defs/Node"}
    schema = obj(
        {"tree": node, "self": {"$ref": "#"}, "json": {"$ref": "#/definitions/json"}},
        **{
            "$defs": {"Node": obj({"kids": {"type": "array", "items": node}, "v": {"type": "integer"}})},
            "definitions": {
                "json": {
                    "anyOf": [
                        {"type": ["string", "number", "boolean", "null"]},
                        {"type": "array", "items": {"$ref": "#/definitions/json"}},
                        {"type": "object", "additionalProperties": {"$ref": "#/definitions/json"}},
                    ]
                }
            },
        },
    )  # fmt: skip
    value = {
        "tree": {"kids": [{"kids": [], "v": 1}]},
        "self": {"tree": {"v": 2}},
        "json": {"a": [1.5, None, {"b": "c"}]},
    }
    assert sent(workspace, schema, **value) == value
    with pytest.raises(ValidationError):
        workspace.module(schema).Params(tree={"kids": [{"w": 1}]})


def test_what_contains_itself_has_its_fields_at_every_level(workspace: Workspace) -> None:
    node = {"$ref": "#/$defs/Node"}
    definition = obj({"kids": {"type": "array", "items": node}, "next": {"allOf": [node]}, "v": {"type": "integer"}})
    schema = obj({"tree": node, "spare": {"$ref": "#/$defs/Same"}}, **{"$defs": {"Node": definition, "Same": node}})
    module = workspace.module(schema, schema)
    value = {"tree": {"v": 1, "kids": [{"v": 2, "next": {"v": 3}}]}, "spare": {"v": 4}}
    for params in (module.Params(**value), module.Result(**value)):
        assert (params.tree.v, params.tree.kids[0].v, params.tree.kids[0].next.v, params.spare.v) == (1, 2, 3, 4)
    assert "RootModel[" not in workspace.source().split("class Params", 1)[1]
    assert "list[Node]" in workspace.source()


@pytest.mark.parametrize(
    "schema",
    [
        obj({"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": {"$ref": "#/$defs/A"}}}),
        obj({"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}),
        obj({"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "string"}]}}}),
        obj({"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}, {"type": "string"}]}}}),
        obj({"a": {"$ref": "#/properties/a"}}),
        obj({"a": {"$ref": "#/$defs/absent"}}),
        obj({"a": {"$ref": 3}}),
        obj({"a": {"$dynamicRef": "#x"}}),
    ],
)
def test_references_that_lead_in_circles_or_nowhere_admit_text(workspace: Workspace, schema: Schema) -> None:
    assert sent(workspace, schema, a="text") == {"a": "text"}


def test_references_by_anchor_by_own_id_and_with_siblings(workspace: Workspace) -> None:
    schema = obj(
        {
            "a": {"$ref": "#thing", "description": "by anchor"},
            "b": {"$ref": "https://x.example/s.json#/$defs/T"},
            "c": {"allOf": [{"$ref": "#/$defs/T"}], "default": {"n": 1}},
        },
        **{
            "$id": "https://x.example/s.json",
            "$defs": {"T": {"$anchor": "thing", **obj({"n": {"type": "integer"}}, "n")}},
        },
    )
    value = {"a": {"n": 1}, "b": {"n": 2}, "c": {"n": 3}}
    assert sent(workspace, schema, **value) == value
    with pytest.raises(ValidationError):
        workspace.module(schema).Params(a={"n": "x"})


def test_alternatives_keep_what_they_were_given(workspace: Workspace) -> None:
    a, b = (
        obj({"kind": {"const": "a"}, "x": {"type": "integer"}}, "kind"),
        obj({"kind": {"const": "b"}, "y": {"type": "string"}}, "kind"),
    )
    schema = obj(
        {
            "u": {"oneOf": [a, b]},
            "v": {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "array", "items": a}]},
        }
    )
    for value in ({"u": {"kind": "b", "y": "1"}}, {"v": "5"}, {"v": 5}, {"v": [{"kind": "a", "x": 1}]}):
        assert sent(workspace, schema, **value) == value


@pytest.mark.parametrize("key", ["anyOf", "oneOf"])
def test_a_root_of_alternatives(workspace: Workspace, key: str) -> None:
    alternatives = {key: [obj({"a": {"type": "string"}}, "a"), obj({"b": {"type": "integer"}}, "b")]}
    assert sent(workspace, alternatives, a="x") == {"a": "x"}
    assert sent(workspace, alternatives, {"b": 1}) == {"b": 1}
    shared = {"type": "object", "properties": {"c": {"type": "integer"}}, **alternatives}
    assert sent(workspace, shared, c=1, a="x") == {"c": 1, "a": "x"}


@pytest.mark.parametrize(
    ("schema", "admitted", "refused"),
    [
        ({"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False}, [1, "a"], [None]),
        ({"prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, [1, "a", "b"], [1, None]),
        ({"prefixItems": [{"type": "integer"}, {"type": "string"}], "maxItems": 2}, [1, "a"], [1, None]),
        ({"items": [{"type": "integer"}, {"type": "string"}], "additionalItems": False}, [1, "a"], [1, None]),
        ({"prefixItems": [{"type": "integer"}]}, [1, None, {"any": "thing"}], None),
        ({"items": [{"type": "integer"}]}, [1, None], None),
        ({"prefixItems": []}, ["x", 1], None),
    ],
)
def test_elements_of_tuples_are_typed_where_the_schema_says_what_may_follow(
    workspace: Workspace, schema: dict[str, Any], admitted: list[Any], refused: list[Any] | None
) -> None:
    tuples = obj({"t": {"type": "array", **schema}})
    assert sent(workspace, tuples, t=admitted) == {"t": admitted}
    if refused is not None:
        with pytest.raises(ValidationError):
            workspace.module(tuples).Params(t=refused)


def test_what_a_schema_writes_out_twice_is_one_class(workspace: Workspace) -> None:
    place = {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]}
    other = {"type": "object", "properties": {"lat": {"type": "integer"}}, "required": ["lat"]}
    schema = obj({"a": place, "b": {"type": "array", "items": json.loads(json.dumps(place))}, "c": other})
    value = {"a": {"lat": 1.5}, "b": [{"lat": 2.0}], "c": {"lat": 1}}
    assert sent(workspace, schema, **value) == value
    assert workspace.source().count("lat: float") == 1
    assert "list[A] | None" in workspace.source()
    with pytest.raises(ValidationError):
        workspace.module(schema).Params(c={"lat": 1.5})


def test_conditions_widen_and_never_narrow(workspace: Workspace) -> None:
    schema = obj(
        {"mode": {"enum": ["a", "b"]}},
        anyOf=[{"required": ["mode"]}, {"required": ["other"]}],
        **{"if": {"properties": {"mode": {"const": "a"}}}, "then": {"properties": {"extra": {"type": "integer"}}}},
        dependentSchemas={"mode": {"properties": {"more": {}}}},
    )
    assert sent(workspace, schema, mode="a", extra=1, more=2) == {"mode": "a", "extra": 1, "more": 2}


def test_all_of_is_one_model(workspace: Workspace) -> None:
    schema = {
        "allOf": [{"$ref": "#/$defs/Base"}, obj({"b": {"type": "integer"}}, "b")],
        "$defs": {"Base": obj({"a": {"type": "string"}}, "a")},
    }
    assert sent(workspace, schema, a="x", b=1) == {"a": "x", "b": 1}
    with pytest.raises(ValidationError):
        workspace.module(schema).Params(b=1)


def test_definitions_may_be_called_like_anything_in_the_module(workspace: Workspace) -> None:
    names = [
        "Params",
        "Result",
        "BaseModel",
        "Field",
        "Any",
        "str",
        "run",
        "None",
        "Literal",
        "x/y~z",
        "params",
        "日本",
    ]
    schema = obj(
        {name: {"$ref": f"#/$defs/{name.replace('~', '~0').replace('/', '~1')}"} for name in names},
        **{"$defs": {name: obj({"v": {"type": "string"}}) for name in names}},
    )
    value = {name: {"v": name} for name in names}
    assert sent(workspace, schema, **value) == value


def test_required_names_without_a_property_are_fields(workspace: Workspace) -> None:
    with pytest.raises(ValidationError):
        workspace.module({"type": "object", "properties": {}, "required": ["x"]}).Params()


def test_reading_the_file_says_all(workspace: Workspace) -> None:
    schema = obj(
        {
            "q": {"type": "string", "description": "What to look for"},
            "limit": {"type": "integer", "default": 5, "description": "At most"},
        },
        "q",
    )
    module = workspace.module(schema, description="Searches.\n\nIn everything.")
    assert module.__doc__.strip() == module.run.__doc__.replace("    ", "").strip() == "Searches.\n\nIn everything."
    assert 'q: Annotated[str, Field(description="What to look for")]' in workspace.source()
    assert 'limit: Annotated[int, Field(description="At most")] = 5' in workspace.source()
    for name in ("BaseModel", "ConfigDict", "Field", "RootModel", "Any", "Literal", "Annotated"):
        assert hasattr(module, name)


def test_a_result_keeps_keys_that_its_schema_does_not_name(workspace: Workspace) -> None:
    module = workspace.module({}, obj({"n": {"type": "integer"}, "inner": obj({"a": {"type": "string"}})}))
    workspace.answer = {"content": [], "structuredContent": {"n": 1, "inner": {"a": "x", "b": 2}, "more": [3]}}
    result = module.run(module.Params())
    assert (result.n, result.inner.a, result.inner.b, result.more) == (1, "x", 2, [3])
    assert result.model_dump(by_alias=True, exclude_unset=True) == workspace.answer["structuredContent"]
    workspace.answer = {"content": [], "structuredContent": {}}
    assert module.run(module.Params()).n is None


@pytest.mark.parametrize(
    ("schema", "value"),
    [({"type": "string"}, "x"), ({"type": "integer"}, 3), ({"type": "array", "items": {"type": "integer"}}, [1, 2])],
)
def test_a_wrapped_value_is_the_attribute_result(workspace: Workspace, schema: Schema, value: object) -> None:
    module = workspace.module({}, obj({"result": schema}, "result"))
    workspace.answer = {"content": [], "structuredContent": {"result": value}}
    assert module.run(module.Params()).result == value


def test_a_server_that_forgets_its_structured_content(workspace: Workspace) -> None:
    module = workspace.module({}, obj({"n": {"type": "integer"}}, "n"))
    workspace.answer = {"content": [{"type": "text", "text": '{"n": 4}'}]}
    assert module.run(module.Params()).n == 4
    workspace.answer = {"content": [{"type": "text", "text": "sorry"}]}
    with pytest.raises(ToolError, match="does not fit its outputSchema") as caught:
        module.run(module.Params())
    assert caught.value.result == workspace.answer
    wrapped = workspace.module({}, obj({"result": {"type": "string"}}, "result"))
    assert wrapped.run(wrapped.Params()).result == "sorry"


def test_without_a_schema_a_result_is_text_with_its_blocks(workspace: Workspace) -> None:
    module = workspace.module({})
    workspace.answer = {
        "content": [
            {"type": "text", "text": "one"},
            {"type": "image", "data": "iVBORw==", "mimeType": "image/png"},
            {"type": "resource_link", "uri": "file:///x", "name": "x"},
            {"type": "resource", "resource": {"uri": "u:1", "blob": "AAE=", "mimeType": "a/b"}},
            {"type": "hologram", "z": 1},
            {"type": "text", "text": "two"},
        ]
    }
    result = module.run(module.Params())
    assert result == "one\ntwo"
    assert isinstance(result, ToolText)
    picture, link, resource = result.content[1:4]
    assert isinstance(picture, ImageBlock)
    assert picture.data == picture._repr_png_() == b"\x89PNG"
    assert picture._repr_mimebundle_()["image/png"] == "iVBORw=="
    assert isinstance(link, LinkBlock)
    assert isinstance(resource, ResourceBlock)
    assert (link.uri, resource.data, result.content[4].type) == ("file:///x", b"\x00\x01", "hologram")


def test_arun_is_run_for_asyncio(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    async def acall(server: str, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": f"{server}.{tool}{arguments}"}]}

    monkeypatch.setattr(bridge, "acall", acall)
    module = workspace.module(obj({"x": {"type": "integer"}}))
    assert asyncio.run(module.arun(module.Params(x=1))) == "srv.tool{'x': 1}"


def test_a_picture_shows_itself_as_the_last_expression_of_a_cell() -> None:
    shell = InteractiveShell.instance()
    picture = {"type": "image", "data": "iVBORw==", "mimeType": "image/png"}
    shell.user_ns["result"] = text_of({"content": [{"type": "text", "text": "see"}, picture, picture]})
    try:
        with capture_output() as captured:
            shell.run_cell("result")
        assert captured.stdout.endswith("see\n")
        assert [output.data["image/png"] for output in captured.outputs] == ["iVBORw=="] * 2
        with capture_output() as captured:
            shell.run_cell("type(result)('only text')")
        assert "'only text'" in captured.stdout
    finally:
        InteractiveShell.clear_instance()


def test_help_is_about_the_tool_and_not_about_pydantic(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydoc, "visiblename", pydoc.visiblename)
    module = workspace.module(obj({"text": {"type": "string"}, "n": {"type": "integer"}}, "text"), obj({}))
    shorten_help_of_models()
    text = pydoc.plain(pydoc.render_doc(module))
    assert "Params(*, text: str, n: int | None = None) -> None" in text
    assert "run(params: 'Params') -> 'Result'" in text
    assert "model_dump" not in text
    assert "__pydantic" not in text
