"""The ingest record: where the samples of a real set came from. It stands where a synthetic replica has its plan."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.plan import FORMAT_VERSION, check_fields, check_format_version

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ingest:
    """What a real set was made from (`ingest.json`).

    Attributes:
        dataset: `fashion-mnist`, `digits`, `imagefolder`, ...
        split: train, validation or test; `score` refuses to test on a train split.
        classes: the class list.
        histogram: samples per class.
        files: pinned input files, name to SHA-256; empty where the input is a folder of images.
        codec: `original` where the stored bytes are the input's own, else the codec that encoded decoded arrays.
        samples_per_shard: samples in every shard but the last.
    """

    KIND: ClassVar = "real"
    FILE: ClassVar = "ingest.json"

    format_version: int = FORMAT_VERSION
    dataset: str
    split: str
    classes: ClassList
    histogram: tuple[int, ...]
    files: Mapping[str, str]
    codec: Mapping[str, Any]
    samples_per_shard: int

    def __post_init__(self) -> None:
        check_format_version(self.format_version, name="ingest.json")
        if self.split not in SPLITS:
            raise InputError(f"split is {self.split!r}, allowed: {', '.join(SPLITS)}")
        if len(self.histogram) != len(self.classes):
            raise InputError(f"histogram has {len(self.histogram)} entries for {len(self.classes)} classes")

    @property
    def num(self) -> int:
        """Number of samples."""
        return sum(self.histogram)

    @property
    def num_shards(self) -> int:
        """Number of shards; the last one may be short."""
        return -(-self.num // self.samples_per_shard)

    @property
    def ingest_id(self) -> str:
        """SHA-256 of ingest.json, 64 hex digits."""
        return sha256_hex(self.to_bytes())

    @property
    def origin_id(self) -> str:
        """The ingest_id, under the name that it has in the records of every kind of set."""
        return self.ingest_id

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **fields,
            "classes": [{"id": i, "name": n} for i, n in zip(self.classes.ids, self.classes.names, strict=True)],
            "histogram": list(self.histogram),
            "files": dict(self.files),
            "codec": dict(self.codec),
        }

    def to_bytes(self) -> bytes:
        """Return the bytes of ingest.json."""
        return canonical_json(self.to_json())

    @classmethod
    def from_json(cls, value: Any, *, name: str = "ingest.json") -> "Ingest":
        """Build the record from the parsed ingest.json. Raises InputError naming what is wrong."""
        check_fields(value, cls, name=name)
        classes = ClassList.from_json(value["classes"], name=f"{name}: classes")
        try:
            return cls(**{**value, "classes": classes, "histogram": tuple(value["histogram"])})
        except TypeError as error:
            raise InputError(f"{name}: a field has the wrong type ({error})") from error
