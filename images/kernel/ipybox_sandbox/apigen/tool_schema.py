"""What is known of a tool's schemas once they are read: types for the generator, and everything else beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ipybox_sandbox.apigen.nodes import Node

Extra = Literal["allow", "forbid"]

NO_DEFAULT = object()

EXTRA_VALUES = "extra_values"
"""In the document, the property whose type is that of the members which a class does not name: `dict[str, T]`."""


def member_name(position: int) -> str:
    """In the document, the property of the field at that position: the generator would rename a `list`."""
    return f"member{position}"


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
    types_extra: bool = False
    """Whether the members that it does not name have a type of their own."""
    extra_names: str | None = None
    """A pattern that their names must match."""


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
