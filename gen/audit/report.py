"""What an audit found: counts, the faults with key, level and position, and the conditions it was made under."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from caskit.manifests.canonical import canonical_json
from caskit.manifests.plan import FORMAT_VERSION

MAX_FAILURES = 1000  # listed; all are counted
MAX_PAIRS = 24  # of each kind, kept for the contact sheet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """One thing that is not as the plan says.

    Attributes:
        kind: `record` (a row, file or root), `image` (its stored bytes), `codes` (their bytes or digest), `interval` (a
            uniform outside its code's interval), `pixels` (not what the codes decode to, or not what is drawn again),
            `attempt` (not the draw that the plan keeps).
        key: of the sample, None for faults of a whole file.
        level: of the codes.
        row, column: the first position at fault, in the map or in the image.
        excess: how far the uniform there lies outside the interval; None for a code that the model does not have.
        pixel_difference: largest absolute difference, in grey levels.
        count: positions at fault.
        message: all of it in words, without the key.
    """

    kind: str
    key: str | None = None
    level: str | None = None
    row: int | None = None
    column: int | None = None
    excess: float | None = None
    pixel_difference: int | None = None
    count: int | None = None
    message: str

    def __str__(self) -> str:
        key = None if self.key is None else self.key if self.key.isprintable() else ascii(self.key)
        return self.message if key is None else f"key {key[:200]}: {self.message}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A stored image beside the one that was decoded or drawn again, [H, W, C] uint8 each."""

    key: str
    failed: bool
    stored: np.ndarray
    again: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditReport:
    """The result of an audit.

    Attributes:
        location: of the replica.
        replica_id, plan_id: what was audited.
        checkpoint_id: what it was audited with; `planned_checkpoint_id` is the plan's.
        mode: `teacher-forced` or `redraw`.
        epsilon: see AuditConfig; None where no codes were looked at.
        pixel_tolerance: in grey levels.
        exact: whether batch size, threads and environment class were those of the sampling.
        selection: see Selection.
        batch_size, threads: what was used.
        counts: what was looked at, by name.
        max_excess: largest distance of a uniform from its code's interval, infinite for an unknown code.
        max_pixel_difference: in grey levels.
        num_failures: all of them.
        failures: the first ones.
        environment: class of this process; `environment_differs` names the fields that the replica's has otherwise.
        versions: of the software.
        pairs: images for a contact sheet: of named keys, of those that failed, then others. No part of the record.
        seconds: spent. No part of the record.
    """

    location: str
    replica_id: str
    plan_id: str
    checkpoint_id: str
    planned_checkpoint_id: str
    mode: str
    epsilon: float | None
    pixel_tolerance: int
    exact: bool
    selection: Mapping[str, Any]
    batch_size: int
    threads: int
    counts: Mapping[str, int]
    max_excess: float | None
    max_pixel_difference: int | None
    num_failures: int
    failures: tuple[Failure, ...]
    environment: Mapping[str, Any]
    environment_differs: tuple[str, ...]
    versions: Mapping[str, str]
    pairs: tuple[Pair, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return self.num_failures == 0

    def to_bytes(self) -> bytes:
        """Return audit.json, canonical JSON. It holds no clock: the same audit again gives the same bytes."""
        left_out = ("location", "pairs", "seconds", "failures")
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        known = self.max_excess is None or math.isfinite(self.max_excess)
        return canonical_json(
            {
                "format_version": FORMAT_VERSION,
                **fields,
                "passed": self.passed,
                "max_excess": self.max_excess if known else "infinite",
                "failures": [dataclasses.asdict(failure) for failure in self.failures],
            }
        )


class Findings:
    """Gathers failures, counts and images while an audit runs.

    Args:
        named: keys that somebody asked for; their images are kept, however many others a redraw compares.
    """

    def __init__(self, named: Collection[str] = ()) -> None:
        self._named, self._named_pairs = frozenset(named), list[Pair]()
        self.failures: list[Failure] = []
        self.num_failures = 0
        self.counts: dict[str, int] = {}
        self.max_excess: float | None = None
        self.max_pixel_difference: int | None = None
        self._pairs: dict[bool, list[Pair]] = {True: [], False: []}

    def fail(self, **fields: Any) -> None:
        """Note a failure."""
        self.num_failures += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(Failure(**fields))

    def count(self, **numbers: int) -> None:
        """Add to the counts, by name with underscores for spaces."""
        for name, number in numbers.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def excess(self, value: float) -> None:
        """Note how far outside its interval a uniform was."""
        self.max_excess = value if self.max_excess is None else max(self.max_excess, value)

    def pixels(self, key: str, failed: bool, stored: np.ndarray, again: np.ndarray, difference: int) -> None:
        """Note a compared image."""
        self.max_pixel_difference = max(self.max_pixel_difference or 0, difference)
        kept = self._named_pairs if key in self._named else self._pairs[failed]
        if len(kept) < MAX_PAIRS:
            kept.append(Pair(key=key, failed=failed, stored=stored, again=again))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Images for the contact sheet: those of named keys, those that failed, then others."""
        return tuple([*self._named_pairs, *self._pairs[True], *self._pairs[False]][:MAX_PAIRS])
