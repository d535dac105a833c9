"""The record of an imported set: images and labels that another program made. It stands where a replica has its plan.

Nothing in it says how the images came to be, because nobody can check what it would say: `NOT_AUDITABLE` lists what is
lost against a replica of a plan.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.classes import MAX_NAME_CHARACTERS, ClassList
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.plan import (
    DEFAULT_SAMPLES_PER_SHARD,
    FORMAT_VERSION,
    MAX_SAMPLES_PER_SHARD,
    MAX_SIDE,
    check_fields,
    check_format_version,
)
from caskit.manifests.quota import Quota

FORMS = ("imagefolder", "npz", "parquet", "webdataset")
ORIGINAL = "original"  # the codec name of a set that stores the input's own bytes
CHANNELS = (1, 3, 4)
NOT_AUDITABLE = (
    "The generator: no family, checkpoint or sampler setting is known, so no image can be drawn again.",
    "The draws: no seeds or streams were recorded, so samples that were picked, repeated, edited or left out before "
    "the import cannot be told from samples as drawn; truncation, guidance or rejection would not show.",
    "The labels: they are the source's own words, no check knows what the generator was asked for.",
    "The training images: whether any of them was copied into the source is not checked.",
)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
    """What an imported set was made from (`import.json`).

    Attributes:
        form: what the source was, one of FORMS.
        name: what whoever imported it calls it; None if nothing was said.
        classes: the class list.
        histogram: samples per class.
        height, width, channels: of every image.
        files: pinned input files, name to SHA-256; empty where the input is a folder of images.
        settings: how the source was read (split, columns, tables), text by name.
        source_sha256: digest of the whole source, docs/format.md rule 7.9.
        codec: `original` where the stored bytes are the input's own, else the codec that encoded decoded arrays.
        samples_per_shard: samples in every shard but the last.
    """

    KIND: ClassVar = "imported"
    FILE: ClassVar = "import.json"

    format_version: int = FORMAT_VERSION
    form: str
    name: str | None = None
    classes: ClassList
    histogram: tuple[int, ...]
    height: int
    width: int
    channels: int
    files: Mapping[str, str]
    settings: Mapping[str, str]
    source_sha256: str
    codec: Mapping[str, Any]
    samples_per_shard: int = DEFAULT_SAMPLES_PER_SHARD

    def __post_init__(self) -> None:
        check_format_version(self.format_version, name=self.FILE)
        if self.form not in FORMS:
            raise InputError(f"{self.FILE}: form is {self.form!r}, allowed: {', '.join(FORMS)}")
        if self.name is not None and not (isinstance(self.name, str) and 0 < len(self.name) <= MAX_NAME_CHARACTERS):
            raise InputError(f"name must be text of 1..{MAX_NAME_CHARACTERS} characters, or nothing")
        if len(self.histogram) != len(self.classes):
            raise InputError(f"histogram has {len(self.histogram)} entries for {len(self.classes)} classes")
        if any(type(count) is not int or count < 0 for count in self.histogram) or not sum(self.histogram):
            raise InputError("histogram must hold whole numbers of 0 or more, not all of them 0")
        for name, high in {"height": MAX_SIDE, "width": MAX_SIDE, "samples_per_shard": MAX_SAMPLES_PER_SHARD}.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= high:
                raise InputError(f"{name} is {value!r}, allowed: 1..{high}")
        if type(self.channels) is not int or self.channels not in CHANNELS:
            raise InputError(f"channels is {self.channels!r}, allowed: {', '.join(map(str, CHANNELS))}")
        for name in ("files", "settings"):
            if not _is_text_map(getattr(self, name)):
                raise InputError(f"{self.FILE}: {name} must be an object of texts")
        for name, value in {"source_sha256": self.source_sha256, **self.files}.items():
            if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
                raise InputError(f"{self.FILE}: {name} is {value!r}, must be 64 lower-case hex digits")
        if not isinstance(self.codec, Mapping):
            raise InputError(f"{self.FILE}: codec must be an object")
        if dict(self.codec) != {"name": ORIGINAL}:
            Codec(**self.codec)  # says what is wrong

    @property
    def num(self) -> int:
        """Number of samples."""
        return sum(self.histogram)

    @property
    def num_shards(self) -> int:
        """Number of shards; the last one may be short."""
        return -(-self.num // self.samples_per_shard)

    @property
    def draw_order(self) -> Quota:
        """The order of the samples: that of a replica with this histogram and seed 0."""
        return Quota(histogram=self.histogram, seed=0)

    @property
    def title(self) -> str:
        """What to call the set: its name, or the form of its source."""
        return self.name or f"imported {self.form}"

    @property
    def origin_id(self) -> str:
        """SHA-256 of import.json, 64 hex digits."""
        return sha256_hex(self.to_bytes())

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **fields,
            "classes": [{"id": i, "name": n} for i, n in zip(self.classes.ids, self.classes.names, strict=True)],
            "histogram": list(self.histogram),
            "files": dict(self.files),
            "settings": dict(self.settings),
            "codec": dict(self.codec),
        }

    def to_bytes(self) -> bytes:
        """Return the bytes of import.json."""
        return canonical_json(self.to_json())

    @classmethod
    def from_json(cls, value: Any, *, name: str = FILE) -> "Import":
        """Build the record from the parsed import.json. Raises InputError naming what is wrong."""
        check_fields(value, cls, name=name)
        classes = ClassList.from_json(value["classes"], name=f"{name}: classes")
        try:
            return cls(**{**value, "classes": classes, "histogram": tuple(value["histogram"])})
        except TypeError as error:
            raise InputError(f"{name}: a field has the wrong type ({error})") from error


def _is_text_map(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for item in value.items() for text in item)
