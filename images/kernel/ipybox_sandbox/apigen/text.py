"""Text of an upstream as Python source: literals and docstrings that stay what they are."""

from __future__ import annotations

import math
import re
import unicodedata

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def readable(text: str) -> str:
    """Text for people and models: no control, bidirectional or other invisible characters but newline and space."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ").split("\n")
    kept = ("".join(c for c in line if unicodedata.category(c) not in _INVISIBLE).rstrip() for line in lines)
    return "\n".join(kept).strip()


def first_line(text: str, *, limit: int = 160) -> str:
    """The first line of a readable text, cut at `limit` characters."""
    line = text.split("\n", 1)[0].strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def literal(value: object) -> str:
    """A JSON value as a Python literal on one line, strings in double quotes where that needs no escapes."""
    if isinstance(value, str):
        quoted = repr(value)  # escapes whatever is not printable, bidirectional characters among them
        return f'"{quoted[1:-1]}"' if quoted[0] == "'" and '"' not in quoted and "\\'" not in quoted else quoted
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    raise TypeError(f"no JSON value: {type(value).__name__}")


def docstring(text: str, *, indent: str = "") -> str:
    """A docstring of readable text, in triple quotes, its lines indented."""
    # No two quotes in a row, and none before the closing ones.
    escaped = re.sub(r'"(?="|\Z)', r'\\"', text.replace("\\", "\\\\"))
    lines = escaped.split("\n")
    body = "\n".join([lines[0], *(f"{indent}{line}" if line else "" for line in lines[1:])])
    return f'"""{body}\n{indent}"""' if len(lines) > 1 else f'"""{body}"""'
