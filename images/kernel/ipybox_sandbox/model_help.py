"""`help()` of models: what each inherits from pydantic is 25,000 characters, in which everything else goes under."""

from __future__ import annotations

import pydoc
from typing import Any

from pydantic import BaseModel

_visible = pydoc.visiblename


def shorten_help_of_models() -> None:
    """From now on, in this process and those that it forks: fields, and what a model has of its own."""
    pydoc.visiblename = _visible_of_model


def _visible_of_model(name: str, all: Any = None, obj: object = None) -> bool:
    """In place of pydoc's own, which it asks about every name of a module and a class."""
    if isinstance(obj, type) and issubclass(obj, BaseModel) and obj is not BaseModel:
        return not name.startswith("__") and not hasattr(BaseModel, name)
    return bool(_visible(name, all, obj))
