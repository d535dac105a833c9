"""packing.json: a set whose samples were put into shards of another size than the record of its origin says.

The samples, their order and their content_root stay; rows_root, packing_root and replica_id are others. Nothing in it
has to be believed: the size of the shards shows in the rows, and the tars of the parent follow from these samples, so
whoever has the repacked set can compute the parent's replica_id (docs/format.md, 7.13).
"""

import dataclasses
from typing import Any, ClassVar

from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError
from caskit.manifests.plan import FORMAT_VERSION, MAX_SAMPLES_PER_SHARD, check_fields, check_format_version


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packing:
    """How a repacked set is packed.

    Attributes:
        parent: replica_id of the same samples in shards of the size that plan.json, or the record in its place, says.
        samples_per_shard: samples in every shard of this set but the last.
    """

    FILE: ClassVar = "packing.json"

    format_version: int = FORMAT_VERSION
    parent: str
    samples_per_shard: int

    def __post_init__(self) -> None:
        check_format_version(self.format_version, name=self.FILE)
        if len(self.parent) != 64 or set(self.parent) - set("0123456789abcdef"):
            raise InputError(f"{self.FILE}: parent is {self.parent!a}, must be 64 lower-case hex digits")
        if not 1 <= self.samples_per_shard <= MAX_SAMPLES_PER_SHARD:
            raise InputError(
                f"{self.FILE}: samples_per_shard is {self.samples_per_shard}, allowed: 1..{MAX_SAMPLES_PER_SHARD}"
            )

    def to_bytes(self) -> bytes:
        """Return the bytes of packing.json."""
        return canonical_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, value: Any, *, name: str = FILE) -> "Packing":
        """Build the record from the parsed packing.json. Raises InputError naming what is wrong."""
        check_fields(value, cls, name=name)
        return cls(**value)
