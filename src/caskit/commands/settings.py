"""`--set key=value`: text from the command line, typed by the fields of a config dataclass."""

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from caskit.manifests.errors import InputError

Config = TypeVar("Config")


def split_setting(text: str) -> tuple[str, str]:
    """Split `key=value` at the first equals sign."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set {text}: not of the form KEY=VALUE")
    return key, value


def _parse(text: str, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if type(None) in arguments and text.lower() in ("none", "null"):
            return None
        return _parse(text, next(a for a in arguments if a is not type(None)))
    if origin is typing.Literal:
        return next(choice for choice in arguments if str(choice) == text)
    if origin is tuple:
        parts = [part.strip() for part in text.split(",")] if text else []
        kinds = [arguments[0]] * len(parts) if arguments[-1] is Ellipsis else list(arguments)
        return tuple(_parse(part, k) for part, k in zip(parts, kinds, strict=True))
    if kind is bool:
        return {"true": True, "false": False}[text.lower()]
    if kind is float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
        return number
    if kind in (int, str):
        return kind(text)
    raise TypeError(f"a field of type {kind} cannot be set from the command line")


def _kind_text(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    if origin is tuple:
        return "values separated by commas"
    if kind is bool:
        return "true, false"
    return {int: "a whole number", float: "a number", str: "text"}.get(kind, str(kind).replace("NoneType", "none"))


def apply_settings(config: Config, settings: Sequence[str], *, fixed: Sequence[str] = ()) -> Config:
    """Return a config dataclass with fields replaced as `--set` asks.

    `a.b=1` sets a field of a nested one, `a.2.b=1` of the second of several.

    Args:
        config: an instance of a frozen dataclass.
        settings: `key=value` texts in the order given; the last one of a key wins.
        fixed: fields that have a flag of their own.

    Raises:
        InputError: an unknown field (the message lists those there are), or a value of another type.
    """
    (changed,) = apply_to_all((config,), settings, fixed=fixed)
    return cast(Config, changed)


def apply_to_all(configs: Sequence[Any], settings: Sequence[str], *, fixed: Sequence[str] = ()) -> tuple[Any, ...]:
    """Do the same for a command with several configs; a field belongs to the first one that has it.

    All are set at once, so fields that have to fit together may come in any order.
    """
    changes: list[dict[str, Any]] = [{} for _ in configs]
    for text in settings:
        key, value = split_setting(text)
        name = key.partition(".")[0]
        place = next((i for i, config in enumerate(configs) if name in _names(config, fixed)), None)
        if place is None:
            allowed = [field for config in configs for field in _names(config, fixed)]
            raise InputError(f"--set {text}: no such field, allowed: {', '.join(allowed)}")
        _collect(changes[place], configs[place], key, value, text)
    return tuple(_replace(config, changed) for config, changed in zip(configs, changes, strict=True))


def _names(config: Any, fixed: Sequence[str] = ()) -> list[str]:
    return [field.name for field in dataclasses.fields(config) if field.name not in fixed]


def _collect(changes: dict[str, Any], config: Any, key: str, value: str, text: str) -> None:
    """Put the value of a setting into the changes of a config: field to value, or to the changes of nested ones."""
    name, dot, rest = key.partition(".")
    if name not in _names(config):
        raise InputError(f"--set {text}: no such field, allowed: {', '.join(_names(config))}")
    if dot:
        nested = getattr(config, name)
        if isinstance(nested, tuple) and nested and all(map(dataclasses.is_dataclass, nested)):
            place, rest = _place(nested, rest, text, name)
            _collect(changes.setdefault(name, {}).setdefault(place, {}), nested[place], rest, value, text)
            return
        if not dataclasses.is_dataclass(nested):
            raise InputError(f"--set {text}: {name} has no fields of its own")
        _collect(changes.setdefault(name, {}), nested, rest, value, text)
        return
    kind = typing.get_type_hints(type(config))[name]
    changes[name] = parse_value(value, kind, text, name)


def _replace(config: Any, changes: dict[str, Any]) -> Any:
    values = {name: _changed(getattr(config, name), change) for name, change in changes.items()}
    return dataclasses.replace(config, **values) if values else config


def _changed(current: Any, change: Any) -> Any:
    """Return a field's new value: what was parsed, or the config, or several configs, with changes of their own."""
    if not isinstance(change, dict):
        return change
    if isinstance(current, tuple):
        return tuple(_replace(item, change.get(place, {})) for place, item in enumerate(current))
    return _replace(current, change)


def _place(items: tuple[Any, ...], key: str, text: str, name: str) -> tuple[int, str]:
    """Split `2.field` into the place of the second of several, and the field."""
    number, dot, rest = key.partition(".")
    if not dot or not number.isdecimal() or not 1 <= int(number) <= len(items):
        raise InputError(f"--set {text}: {name} are counted from 1 to {len(items)}, as in {name}.1.FIELD=VALUE")
    return int(number) - 1, rest


def parse_value(value: str, kind: Any, text: str, name: str) -> Any:
    """Read a value of a type. Raises InputError with the setting's text, the field's name and what it takes."""
    try:
        return _parse(value, kind)
    except (ValueError, KeyError, StopIteration) as error:
        raise InputError(f"--set {text}: {value!r} is not allowed, {name} takes {_kind_text(kind)}") from error
    except TypeError as error:
        raise InputError(f"--set {text}: {name}: {error}") from error
