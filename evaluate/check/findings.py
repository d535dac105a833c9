"""What a check found: what agrees, what does not, and what was not at hand to be looked at."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

AGREES, DIFFERS, MISSING = "agrees", "differs", "not at hand"
RELATIVE, ABSOLUTE = 1e-9, 1e-12  # the order of a sum may differ between machines, nothing else
MAX_SHOWN = 20
_UNCHECKED = "location"  # where a folder was; another machine has it elsewhere


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        where: the file or folder.
        state: `agrees`, `differs` or `not at hand`.
        message: what was compared, or what is wrong.
    """

    where: str
    state: Literal["agrees", "differs", "not at hand"]
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class Report:
    """The findings of a check, in order."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def agrees(self, where: object, message: str) -> None:
        """Note what was compared and is as it should be."""
        self.findings.append(Finding(where=str(where), state="agrees", message=message))

    def differs(self, where: object, message: str) -> None:
        """Note a fault."""
        self.findings.append(Finding(where=str(where), state="differs", message=message))

    def missing(self, where: object, message: str) -> None:
        """Note what could not be looked at."""
        self.findings.append(Finding(where=str(where), state="not at hand", message=message))

    def of(self, state: str) -> list[Finding]:
        """Return the findings of one state."""
        return [finding for finding in self.findings if finding.state == state]

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return not self.of(DIFFERS)

    def compare(self, where: object, due: Any, stored: Any, what: str) -> None:
        """Note every value of a record that is not what is due, or that all of them are."""
        faults, count = [], 0
        for path, ours, theirs in pairs(due, stored):
            count += 1
            if not equal(ours, theirs):
                faults.append(f"{path} is {shown(theirs)}, {what} gives {shown(ours)}")
        for fault in faults[:MAX_SHOWN]:
            self.differs(where, fault)
        if len(faults) > MAX_SHOWN:
            self.differs(where, f"{len(faults) - MAX_SHOWN} more values differ")
        if not faults:
            self.agrees(where, f"{count:,} values are what {what} gives")


class _Absent:
    """Stands for a value that a record does not have."""


ABSENT = _Absent()


def pairs(due: Any, stored: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted path, due, stored) for every plain value of two JSON values; locations are left out."""
    if isinstance(due, Mapping):
        found = stored if isinstance(stored, Mapping) else {}
        for key in due:
            if key != _UNCHECKED:
                yield from pairs(due[key], found.get(key, ABSENT), f"{path}.{key}" if path else str(key))
    elif isinstance(due, list):
        found_list = stored if isinstance(stored, list) else []
        if len(found_list) != len(due):
            yield f"{path}.length", len(due), len(found_list) if isinstance(stored, list) else ABSENT
        for place, (ours, theirs) in enumerate(zip(due, found_list, strict=False)):
            yield from pairs(ours, theirs, f"{path}[{place}]")
    else:
        yield path, due, stored


def equal(due: Any, stored: Any) -> bool:
    """Compare two plain values; numbers that are not whole within the error of a sum."""
    if isinstance(due, float) and isinstance(stored, float | int) and not isinstance(stored, bool):
        return math.isclose(due, stored, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(due) is type(stored) and bool(due == stored)


def shown(value: Any) -> str:
    """Spell a value for a line of output."""
    return "not there" if value is ABSENT else repr(value)[:80]


def shared(due: Any, stored: Any) -> Any:
    """Return of a JSON value what another one has too: what an older record may be compared with."""
    if isinstance(due, Mapping) and isinstance(stored, Mapping):
        return {key: shared(value, stored[key]) for key, value in due.items() if key in stored}
    if isinstance(due, list) and isinstance(stored, list) and len(due) == len(stored):
        return [shared(ours, theirs) for ours, theirs in zip(due, stored, strict=True)]
    return due
