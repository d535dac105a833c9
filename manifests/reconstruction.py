"""The record of a set of reconstructions: which autoencoder was applied to which real set. It stands for a plan.

Nothing is drawn: sample i of the set is what the model makes of sample i of its parent, under the parent's key.
"""

import dataclasses
from typing import Any, ClassVar

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.ingest import SPLITS
from caskit.manifests.plan import (
    DEFAULT_MICROBATCH_SIZE,
    DEFAULT_SAMPLES_PER_SHARD,
    FORMAT_VERSION,
    MAX_CHANNELS,
    MAX_SAMPLES_PER_SHARD,
    MAX_SIDE,
    Numerics,
    check_fields,
    check_format_version,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parent:
    """The real set whose images were reconstructed.

    Attributes:
        replica_id, content_root: of its replica.json, 64 hex digits each.
        dataset, split: of its ingest.json.
    """

    replica_id: str
    content_root: str
    dataset: str
    split: str

    def __post_init__(self) -> None:
        for name in ("replica_id", "content_root"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
                raise InputError(f"parent: {name} is {value!r}, must be 64 lower-case hex digits")
        if not isinstance(self.dataset, str) or not self.dataset:
            raise InputError(f"parent: dataset is {self.dataset!r}, must be a name")
        if self.split not in SPLITS:
            raise InputError(f"parent: split is {self.split!r}, allowed: {', '.join(SPLITS)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Everything that decides a set of reconstructions (`reconstruction.json`) inside one environment class.

    Attributes:
        classes, histogram: the parent's.
        parent: the real set.
        family, preset: which generator's autoencoder; `checkpoint_id` names its weights.
        sampler_version: see Plan, as for the codec, samples_per_shard, microbatch_size, pixel_digests and numerics.
        height, width, channels: of every image, the parent's.
    """

    KIND: ClassVar = "reconstruction"
    FILE: ClassVar = "reconstruction.json"

    format_version: int = FORMAT_VERSION
    classes: ClassList
    parent: Parent
    family: str
    preset: str
    checkpoint_id: str
    sampler_version: int
    histogram: tuple[int, ...]
    height: int
    width: int
    channels: int
    codec: Codec
    samples_per_shard: int = DEFAULT_SAMPLES_PER_SHARD
    microbatch_size: int = DEFAULT_MICROBATCH_SIZE
    pixel_digests: bool = False
    numerics: Numerics = Numerics()

    def __post_init__(self) -> None:
        check_format_version(self.format_version, name=self.FILE)
        if len(self.histogram) != len(self.classes):
            raise InputError(f"histogram has {len(self.histogram)} entries for {len(self.classes)} classes")
        if any(type(count) is not int or count < 0 for count in self.histogram) or not sum(self.histogram):
            raise InputError("histogram must hold whole numbers of 0 or more, not all of them 0")
        bounds = {
            "sampler_version": (1, 2**31),
            "height": (1, MAX_SIDE),
            "width": (1, MAX_SIDE),
            "channels": (1, MAX_CHANNELS),
            "samples_per_shard": (1, MAX_SAMPLES_PER_SHARD),
            "microbatch_size": (1, 65536),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(f"{name} is {value!r}, allowed: {low}..{high}")
        if type(self.pixel_digests) is not bool:
            raise InputError(f"pixel_digests is {self.pixel_digests!r}, allowed: true, false")

    @property
    def num(self) -> int:
        """Number of samples."""
        return sum(self.histogram)

    @property
    def num_shards(self) -> int:
        """Number of shards; the last one may be short."""
        return -(-self.num // self.samples_per_shard)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """Return the sample ids `start <= i < stop` of one shard."""
        assert 0 <= shard < self.num_shards, f"shard {shard} outside 0:{self.num_shards}"
        start = shard * self.samples_per_shard
        return start, min(start + self.samples_per_shard, self.num)

    @property
    def origin_id(self) -> str:
        """SHA-256 of reconstruction.json, 64 hex digits."""
        return sha256_hex(self.to_bytes())

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **fields,
            "classes": [{"id": i, "name": n} for i, n in zip(self.classes.ids, self.classes.names, strict=True)],
            "parent": dataclasses.asdict(self.parent),
            "histogram": list(self.histogram),
            "codec": self.codec.to_json(),
            "numerics": dataclasses.asdict(self.numerics),
        }

    def to_bytes(self) -> bytes:
        """Return the bytes of reconstruction.json."""
        return canonical_json(self.to_json())

    @classmethod
    def from_json(cls, value: Any, *, name: str = FILE) -> "Reconstruction":
        """Build the record from the parsed reconstruction.json. Raises InputError naming what is wrong."""
        check_fields(value, cls, name=name)
        check_fields(value["numerics"], Numerics, name=f"{name}: numerics")
        check_fields(value["parent"], Parent, name=f"{name}: parent")
        try:
            return cls(
                **{
                    **value,
                    "classes": ClassList.from_json(value["classes"], name=f"{name}: classes"),
                    "parent": Parent(**value["parent"]),
                    "histogram": tuple(value["histogram"]),
                    "codec": Codec(**value["codec"]),
                    "numerics": Numerics(**value["numerics"]),
                }
            )
        except TypeError as error:
            raise InputError(f"{name}: a field has the wrong type ({error})") from error
