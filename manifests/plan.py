"""The plan: everything that decides the contents of a synthetic replica. `plan_id` is the SHA-256 of its JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.kinds import check_kinds
from caskit.manifests.quota import Quota
from caskit.manifests.rejection import Rejection

FORMAT_VERSION = 1  # of everything caskit writes; docs/format.md says what a reader does with another one
# Constants, never read from the host: a plan must be the same wherever it is made.
DEFAULT_MICROBATCH_SIZE = 64
DEFAULT_SAMPLES_PER_SHARD = 1000
DEFAULT_THREADS = 1
MAX_SAMPLES_PER_SHARD = 1_000_000
MAX_SIDE = 16384
MAX_CHANNELS = 4


def check_format_version(value: Any, *, name: str) -> None:
    """Raise InputError unless a record was written in a format version that this release reads."""
    if type(value) is not int or value != FORMAT_VERSION:
        raise InputError(
            f"{name}: format_version is {value!r}, this caskit reads {FORMAT_VERSION}; a newer set needs a newer caskit"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numerics:
    """What decides the floating-point bits besides the environment class.

    Attributes:
        device: kind only, `cpu` or `cuda`; which one of several does not matter.
        precision: `float32` or `bfloat16` (autocast).
        tf32: allow TensorFloat-32 matrix products.
        compile: run the model through torch.compile.
        deterministic: torch.use_deterministic_algorithms.
        threads: intra-op threads of each actor.
    """

    device: str = "cpu"
    precision: str = "float32"
    tf32: bool = False
    compile: bool = False
    deterministic: bool = True
    threads: int = DEFAULT_THREADS

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise InputError(f"numerics.device is {self.device!r}, allowed: cpu, cuda")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"numerics.precision is {self.precision!r}, allowed: float32, bfloat16")
        for name in ("tf32", "compile", "deterministic"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"numerics.{name} is {getattr(self, name)!r}, allowed: true, false")
        if type(self.threads) is not int or not 1 <= self.threads <= 1024:
            raise InputError(f"numerics.threads is {self.threads!r}, allowed: 1..1024")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A replica before it exists. Two equal plans give equal bytes inside one environment class.

    Attributes:
        classes: the class list.
        family, preset: which generator; `checkpoint_id` names its weights.
        sampler: the family's sampling settings, JSON values.
        sampler_version: raised by us whenever a change of the code changes a family's bytes.
        quota: `balanced`, or `like:<content_root of the real set>`; how `histogram` was made.
        histogram: samples per class; `seed` orders and draws them.
        height, width, channels: of every image.
        codec: how an image is stored.
        samples_per_shard, microbatch_size: a microbatch never spans shards, the last one of a shard is padded.
        max_attempts: rounds of draws of one sample before non-finite output fails its shard.
        pixel_digests: fill the rows' pixel_sha256.
        record_codes: keep the codes that each sample was decoded from beside its shard, for an audit.
        rejection: draw several candidates per sample and keep the best by a classifier; None keeps the first finite.
    """

    KIND: ClassVar = "synthetic"
    FILE: ClassVar = "plan.json"

    format_version: int = FORMAT_VERSION
    classes: ClassList
    family: str
    preset: str
    checkpoint_id: str
    sampler: Mapping[str, Any]
    sampler_version: int
    quota: str
    histogram: tuple[int, ...]
    seed: int
    height: int
    width: int
    channels: int
    codec: Codec
    samples_per_shard: int = DEFAULT_SAMPLES_PER_SHARD
    microbatch_size: int = DEFAULT_MICROBATCH_SIZE
    max_attempts: int = 4
    pixel_digests: bool = False
    record_codes: bool = False
    rejection: Rejection | None = None
    numerics: Numerics = Numerics()

    def __post_init__(self) -> None:
        check_format_version(self.format_version, name="plan.json")
        if len(self.histogram) != len(self.classes):
            raise InputError(f"histogram has {len(self.histogram)} entries for {len(self.classes)} classes")
        bounds = {
            "sampler_version": (1, 2**31),
            "height": (1, MAX_SIDE),
            "width": (1, MAX_SIDE),
            "channels": (1, MAX_CHANNELS),
            "samples_per_shard": (1, MAX_SAMPLES_PER_SHARD),
            "microbatch_size": (1, 65536),
            "max_attempts": (1, 1000),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(f"{name} is {value!r}, allowed: {low}..{high}")
        if type(self.record_codes) is not bool:
            raise InputError(f"record_codes is {self.record_codes!r}, allowed: true, false")
        if self.quota != "balanced" and not self.quota.startswith("like:"):
            raise InputError(f"quota is {self.quota!r}, allowed: balanced, like:<content_root>")
        canonical_json(dict(self.sampler))  # a setting that is no JSON dies here, not in a worker
        _ = self.draw_order

    @property
    def draw_order(self) -> Quota:
        """The histogram with its draw order."""
        return Quota(histogram=self.histogram, seed=self.seed)

    @property
    def num(self) -> int:
        """Number of samples."""
        return sum(self.histogram)

    @property
    def num_candidates(self) -> int:
        """Draws of a sample in one round, 1 without rejection; with a threshold, at most as many."""
        return 1 if self.rejection is None else self.rejection.candidates

    @property
    def num_attempts(self) -> int:
        """Draws of a sample at most: a row's attempt is below it."""
        return self.num_candidates * self.max_attempts

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
    def plan_id(self) -> str:
        """SHA-256 of plan.json, 64 hex digits."""
        return sha256_hex(self.to_bytes())

    @property
    def origin_id(self) -> str:
        """The plan_id, under the name that it has in the records of every kind of set."""
        return self.plan_id

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **fields,
            "classes": [{"id": i, "name": n} for i, n in zip(self.classes.ids, self.classes.names, strict=True)],
            "sampler": dict(self.sampler),
            "histogram": list(self.histogram),
            "codec": self.codec.to_json(),
            "rejection": None if self.rejection is None else self.rejection.to_json(),
            "numerics": dataclasses.asdict(self.numerics),
        }

    def to_bytes(self) -> bytes:
        """Return the bytes of plan.json."""
        return canonical_json(self.to_json())

    @classmethod
    def from_json(cls, value: Any, *, name: str = "plan.json") -> "Plan":
        """Build a plan from the parsed plan.json. Raises InputError naming a field that is missing or wrong."""
        check_fields(value, cls, name=name)
        check_fields(value["numerics"], Numerics, name=f"{name}: numerics")
        rejection = value["rejection"]
        try:
            return cls(
                **{
                    **value,
                    "classes": ClassList.from_json(value["classes"], name=f"{name}: classes"),
                    "histogram": tuple(value["histogram"]),
                    "codec": Codec(**value["codec"]),
                    "rejection": None if rejection is None else read_rejection(rejection, name=name),
                    "numerics": Numerics(**value["numerics"]),
                }
            )
        except TypeError as error:
            raise InputError(f"{name}: a field has the wrong type ({error})") from error


def read_rejection(value: Any, *, name: str) -> Rejection:
    """Build a rejection from its JSON in a plan or a checkpoint. Raises InputError naming a field that is wrong."""
    if isinstance(value, dict) and "threshold" not in value:  # format.md 7.8: left out is none
        value = {**value, "threshold": None}
    elif isinstance(value, dict) and value["threshold"] is None:
        raise InputError(f"{name}: rejection: threshold is null, a rejection without one leaves it out")
    check_fields(value, Rejection, name=f"{name}: rejection")
    return Rejection(**value)


def check_fields(value: Any, cls: type, *, name: str) -> None:
    """Raise InputError unless `value` is an object with exactly the fields of `cls`, each of its kind of JSON value.

    A newer format version says so.
    """
    if not isinstance(value, dict):
        raise InputError(f"{name}: must be a JSON object")
    if "format_version" in value:
        check_format_version(value["format_version"], name=name)
    expected = {field.name for field in dataclasses.fields(cls)}
    if set(value) != expected:
        missing, unknown = sorted(expected - set(value)), sorted(set(value) - expected)
        raise InputError(f"{name}: missing fields: {missing or 'none'}, unknown fields: {unknown or 'none'}")
    check_kinds(value, cls, name=name)


def differing_fields(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name the fields in which two records differ, nested ones with a dot; long values are not printed."""
    names = []
    for key in sorted(set(ours) | set(theirs)):
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += differing_fields(a, b, f"{prefix}{key}.")
        elif a != b:
            short = max(len(repr(a)), len(repr(b))) <= 72
            names.append(f"{prefix}{key} ({a!r} here, {b!r} there)" if short else f"{prefix}{key}")
    return names
