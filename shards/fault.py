"""One thing that is wrong with a set, and the error that carries what a check found."""

import dataclasses
from collections.abc import Iterable

from caskit.manifests.errors import IntegrityError

MAX_FAULTS = 20  # a broken set is broken; more lines do not help


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong and where.

    Attributes:
        file: the file at fault, or the one whose statement is not met.
        shard, key: the tar and the sample concerned, where they are known.
        message: what was found and what is due.
    """

    file: str
    shard: str | None = None
    key: str | None = None
    message: str

    def __str__(self) -> str:
        parts = [self.file]
        if self.shard is not None and not self.file.endswith(self.shard):
            parts.append(self.shard)
        if self.key is not None:
            parts.append(f"key {self.key if self.key.isprintable() else ascii(self.key)}"[:200])
        return ": ".join((*parts, self.message))


class BrokenSet(IntegrityError):
    """A set that does not agree with its own records; `faults` holds the first ones found."""

    def __init__(self, location: str, faults: Iterable[Fault]) -> None:
        self.location, self.faults = location, tuple(faults)
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        super().__init__(f"{location}: {self.faults[0]}{more}")

    def __reduce__(self) -> tuple[type["BrokenSet"], tuple[str, tuple[Fault, ...]]]:
        """Pickle what it was made of: an error's own way would call it with the message."""
        return type(self), (self.location, self.faults)
