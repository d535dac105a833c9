"""A JSON object read with checks: numbers are numbers, text is text, whoever wrote them."""

import json
import math
from typing import Any

from caskit.evaluate.report.chart import Interval
from caskit.manifests.errors import InputError


class Fields:
    """A JSON object read field by field; every error names the file and the field."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{where}: must be a JSON object")
        self.value: dict[str, Any] = value
        self.where = where

    def has(self, name: str) -> bool:
        """Return whether a field is there and is not null."""
        return self.value.get(name) is not None

    def number(self, name: str) -> float:
        """Return a finite number."""
        value = self.value.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{self.where}: {name} is {value!r}, must be a number")
        return value

    def integer(self, name: str) -> int:
        """Return an integer of 0 or more."""
        value = self.value.get(name)
        if type(value) is not int or value < 0:
            raise InputError(f"{self.where}: {name} is {value!r}, must be an integer of 0 or more")
        return value

    def fraction(self, name: str) -> float:
        """Return a number between 0 and 1."""
        value = self.number(name)
        if not 0 <= value <= 1:
            raise InputError(f"{self.where}: {name} is {value!r}, must lie between 0 and 1")
        return value

    def text(self, name: str) -> str:
        """Return text."""
        value = self.value.get(name)
        if not isinstance(value, str):
            raise InputError(f"{self.where}: {name} is {value!r}, must be text")
        return value

    def fields(self, name: str) -> "Fields":
        """Return an object inside this one."""
        return Fields(self.value.get(name), f"{self.where}: {name}")

    def items(self, name: str) -> list[Any]:
        """Return a list."""
        value = self.value.get(name)
        if not isinstance(value, list):
            raise InputError(f"{self.where}: {name} must be a list")
        return value

    def interval(self, name: str) -> Interval:
        """Return `{value, low, high}` as fractions."""
        inner = self.fields(name)
        return Interval(value=inner.fraction("value"), low=inner.fraction("low"), high=inner.fraction("high"))

    def spelled(self) -> dict[str, str]:
        """Spell every value that is not null for people: text as it is, settings as `name=value`, the rest as JSON."""
        return {name: _spell(value) for name, value in self.value.items() if value is not None}


def _spell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value and not any(isinstance(inner, dict | list) for inner in value.values()):
        return ", ".join(f"{name}={_spell(inner)}" for name, inner in sorted(value.items()))
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
