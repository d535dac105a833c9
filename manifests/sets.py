"""How a command names the samples it uses: a reference to one set, and the expression that a result records."""

import dataclasses
import re
from typing import Any

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import InputError

_REFERENCE = re.compile(r"(?P<location>.+?)(@sha256:(?P<prefix>[0-9a-f]*))?")
_FIRST = re.compile(r"first(-shards)?:[1-9][0-9]{0,12}")
MIN_PREFIX_DIGITS = 8
ALL = "all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetReference:
    """`PATH_OR_URL[@sha256:prefix]`: where a set is, and how its replica_id must begin."""

    location: str
    prefix: str | None = None

    @classmethod
    def parse(cls, text: str) -> "SetReference":
        """Split a reference. Raises InputError for an empty location or a prefix that is too short or no hex."""
        match = _REFERENCE.fullmatch(text)
        if match is None or "@sha256:" in match["location"]:
            raise InputError(f"set reference {text!r} is not of the form PATH_OR_URL[@sha256:hex]")
        prefix = match["prefix"]
        if prefix is not None and not MIN_PREFIX_DIGITS <= len(prefix) <= 64:
            raise InputError(f"set reference {text!r}: the digest needs {MIN_PREFIX_DIGITS} to 64 hex digits")
        return cls(location=match["location"], prefix=prefix)

    def check(self, replica_id: str) -> None:
        """Raise InputError unless the id begins as the reference says."""
        if self.prefix is not None and not replica_id.startswith(self.prefix):
            raise InputError(
                f"{self.location}: replica_id is {replica_id}, the reference asks for sha256:{self.prefix}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One source of a set expression: a set, which of its samples (`all`, `first:N`, `first-shards:K`), how often."""

    replica_id: str
    select: str = ALL
    repeat: int = 1

    def __post_init__(self) -> None:
        if (self.select != ALL and not _FIRST.fullmatch(self.select)) or self.repeat != 1:
            raise InputError(
                f"set expression: select {self.select!r} repeat {self.repeat!r}, this caskit reads 'all', "
                "'first:N' or 'first-shards:K' once"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetExpression:
    """What was trained or scored on, `{"sources": [...]}`; `set_id` is the SHA-256 of its canonical JSON."""

    sources: tuple[Source, ...]

    @property
    def set_id(self) -> str:
        """SHA-256 of the expression, 64 hex digits."""
        return sha256_hex(canonical_json(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Return the expression as JSON values."""
        return {"sources": [dataclasses.asdict(source) for source in self.sources]}
