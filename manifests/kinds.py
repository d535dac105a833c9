"""Which JSON value a field of a record may hold: read off its annotation, so that no record forgets to look."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from caskit.manifests.errors import InputError

_NAMES = {str: "text", int: "a whole number", bool: "true or false", float: "a number", types.NoneType: "null"}
MAX_SHOWN = 80  # characters of a wrong value


def check_kinds(value: Mapping[str, Any], cls: type, *, name: str) -> None:
    """Raise InputError for the first field of a parsed record whose JSON value is not of its annotation's kind.

    A class of ours stands for the object or list that its own `from_json` looks at.
    """
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if not _fits(value[field.name], hints[field.name]):
            shown = ascii(value[field.name])
            shown = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."
            wanted = _describe(hints[field.name])
            raise InputError(f"{name}: {field.name} has the wrong type: {shown}, must be {wanted}")


def _fits(value: Any, kind: Any) -> bool:
    outer, inner = typing.get_origin(kind), typing.get_args(kind)
    if outer in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in inner)
    if outer is tuple:
        return isinstance(value, list) and all(_fits(part, inner[0]) for part in value)
    if isinstance(outer, type) and issubclass(outer, Mapping):
        return isinstance(value, dict) and all(_fits(part, inner[1]) for part in value.values())
    if kind is float:
        return type(value) in (int, float)
    if kind in _NAMES:
        return type(value) is kind
    return kind is Any or isinstance(value, dict | list)


def _describe(kind: Any) -> str:
    outer, inner = typing.get_origin(kind), typing.get_args(kind)
    if outer in (types.UnionType, typing.Union):
        return " or ".join(_describe(one) for one in inner)
    if outer is tuple:
        return f"a list, each {_describe(inner[0])}"
    if isinstance(outer, type) and issubclass(outer, Mapping):
        return "an object" if inner[1] is Any else f"an object of fields, each {_describe(inner[1])}"
    return _NAMES.get(kind, "an object or a list")
