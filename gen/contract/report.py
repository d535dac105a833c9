"""What a contract check found: one line per promise, and what the generator costs."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One promise.

    Attributes:
        name: one word.
        problems: how it was broken, and what to do about each; none if it was kept or could not be checked.
        note: what was looked at, or why nothing could be.
        checked: False where nothing could be looked at.
    """

    name: str
    problems: tuple[str, ...] = ()
    note: str = ""
    checked: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a generator costs in a process of its own.

    Attributes:
        load_s: to load it.
        images_per_s: of one worker, drawing and encoding one after the other, after a microbatch of warming up.
        peak_bytes: most memory that the process held, Python and torch included.
        device_bytes: most memory that torch held on a GPU; None on a processor.
    """

    load_s: float
    images_per_s: float
    peak_bytes: int
    device_bytes: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contract:
    """All promises of one generator.

    Attributes:
        checks: in the order in which they were looked at.
        cost: None where the generator could not be tried to the end.
    """

    checks: tuple[Check, ...]
    cost: Cost | None = None

    @property
    def problems(self) -> list[str]:
        """Every broken promise, on a line each."""
        return [problem for check in self.checks for problem in check.problems]

    @property
    def passed(self) -> bool:
        """Whether nothing that was checked is broken."""
        return not self.problems
