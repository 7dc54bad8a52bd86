"""Results without a schema: text, and blocks of other kinds beside it. Standard library only."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TextBlock:
    """Text of a tool."""

    text: str
    type: str = "text"


@dataclass(frozen=True)
class ImageBlock:
    """A picture of a tool; as the last expression of a cell, or with `display`, it shows itself."""

    data: bytes = field(repr=False)
    mime_type: str
    type: str = "image"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {self.mime_type: base64.b64encode(self.data).decode(), "text/plain": repr(self)}

    def _repr_png_(self) -> bytes | None:
        return self.data if self.mime_type == "image/png" else None


@dataclass(frozen=True)
class AudioBlock:
    """Sound of a tool."""

    data: bytes = field(repr=False)
    mime_type: str
    type: str = "audio"


@dataclass(frozen=True)
class ResourceBlock:
    """A resource that came with the result: its `text` or its `data`."""

    uri: str
    mime_type: str | None
    text: str | None
    data: bytes | None = field(repr=False)
    type: str = "resource"


@dataclass(frozen=True)
class LinkBlock:
    """A resource that the result only names."""

    uri: str
    name: str
    description: str | None
    mime_type: str | None
    type: str = "resource_link"


@dataclass(frozen=True)
class OtherBlock:
    """A kind of content that is newer than this client."""

    type: str
    raw: Mapping[str, Any]


Block = TextBlock | ImageBlock | AudioBlock | ResourceBlock | LinkBlock | OtherBlock


class ToolText(str):
    """The text of a result, joined by newlines; `content` holds all its blocks, pictures and links among them."""

    content: tuple[Block, ...]

    def __new__(cls, text: str = "", content: Iterable[Block] = ()) -> ToolText:
        self = super().__new__(cls, text)
        self.content = tuple(content)
        return self

    def __getnewargs__(self) -> tuple[str, tuple[Block, ...]]:  # type: ignore[override]  # for copy and pickle
        return str(self), self.content

    def _ipython_display_(self) -> None:
        pictures = [block for block in self.content if isinstance(block, ImageBlock)]
        if not pictures:
            raise NotImplementedError  # IPython then shows the string as any other
        from IPython.display import display

        if self:
            print(self)
        for picture in pictures:
            display(picture)  # type: ignore[no-untyped-call]


def text_of(result: Mapping[str, Any]) -> ToolText:
    """The text of a CallToolResult, with its blocks."""
    content = result.get("content")
    blocks = [_block(raw) for raw in content if isinstance(raw, dict)] if isinstance(content, list) else []
    texts = [block.text for block in blocks if isinstance(block, TextBlock)]
    structured = result.get("structuredContent")
    if not blocks and structured is not None:
        texts = [json.dumps(structured, ensure_ascii=False)]
    return ToolText("\n".join(texts), blocks)


def _block(raw: Mapping[str, Any]) -> Block:
    kind = _string(raw, "type")
    if kind == "text":
        return TextBlock(_string(raw, "text"))
    if kind == "image":
        return ImageBlock(_bytes(raw, "data"), _string(raw, "mimeType"))
    if kind == "audio":
        return AudioBlock(_bytes(raw, "data"), _string(raw, "mimeType"))
    if kind == "resource_link":
        return LinkBlock(
            _string(raw, "uri"), _string(raw, "name"), _optional(raw, "description"), _optional(raw, "mimeType")
        )
    resource = raw.get("resource")
    if kind == "resource" and isinstance(resource, dict):
        data = _bytes(resource, "blob") if "blob" in resource else None
        return ResourceBlock(
            _string(resource, "uri"), _optional(resource, "mimeType"), _optional(resource, "text"), data
        )
    return OtherBlock(kind, raw)


def _optional(raw: Mapping[str, Any], key: str) -> str | None:
    value = raw.get(key)
    return value if isinstance(value, str) else None


def _string(raw: Mapping[str, Any], key: str) -> str:
    return _optional(raw, key) or ""


def _bytes(raw: Mapping[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(_string(raw, key))
    except (binascii.Error, ValueError):
        return b""
