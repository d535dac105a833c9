"""replica.json: written last, so its existence means that the set is complete. `replica_id` is its SHA-256."""

import dataclasses
from typing import Any

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import InputError
from caskit.manifests.plan import FORMAT_VERSION, check_fields, check_format_version

KINDS = ("synthetic", "real", "reconstruction", "imported", "view")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replica:
    """The identity of a frozen set.

    Attributes:
        kind: synthetic, real, reconstruction, imported or view.
        origin_sha256: digest of plan.json (its plan_id), ingest.json, reconstruction.json or import.json.
        num_samples, num_classes, num_shards: counts.
        class_list_sha256: digest of the class list.
        content_root, rows_root, packing_root: see roots.py, 64 hex digits each.
    """

    format_version: int = FORMAT_VERSION
    kind: str
    origin_sha256: str
    num_samples: int
    num_classes: int
    num_shards: int
    class_list_sha256: str
    content_root: str
    rows_root: str
    packing_root: str

    def __post_init__(self) -> None:
        check_format_version(self.format_version, name="replica.json")
        if self.kind not in KINDS:
            raise InputError(f"replica.json: kind is {self.kind!r}, allowed: {', '.join(KINDS)}")
        for name in ("num_samples", "num_classes", "num_shards"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"replica.json: {name} is {value!r}, must be a positive integer")
        for name in ("origin_sha256", "class_list_sha256", "content_root", "rows_root", "packing_root"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
                raise InputError(f"replica.json: {name} is {value!r}, must be 64 lower-case hex digits")

    @property
    def replica_id(self) -> str:
        """SHA-256 of replica.json, 64 hex digits: what `sha256sum replica.json` prints."""
        return sha256_hex(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the bytes of replica.json."""
        return canonical_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, value: Any, *, name: str = "replica.json") -> "Replica":
        """Build the record from the parsed replica.json. Raises InputError naming what is wrong."""
        check_fields(value, cls, name=name)
        return cls(**value)
