"""Which image codec a set stores and with which settings; shards/codecs.py turns pixels into those bytes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from caskit.manifests.errors import InputError

# Every setting a codec has, with its default. RLE at level 1 measured fastest of zlib's lossless strategies without
# giving up size (docs/LOG.md).
DEFAULTS: dict[str, dict[str, int | str | bool]] = {
    "png": {"compress_level": 1, "strategy": "rle"},
    "jpeg": {"quality": 95, "subsampling": "4:4:4"},
    "webp": {"lossless": True, "quality": 50, "method": 0},
}
_ALLOWED: dict[tuple[str, str], tuple[int | str | bool, ...]] = {
    ("png", "compress_level"): tuple(range(10)),
    ("png", "strategy"): ("default", "filtered", "huffman", "rle", "fixed"),
    ("jpeg", "quality"): tuple(range(1, 101)),
    ("jpeg", "subsampling"): ("4:4:4", "4:2:2", "4:2:0"),
    ("webp", "lossless"): (False, True),
    ("webp", "quality"): tuple(range(101)),
    ("webp", "method"): tuple(range(7)),
}
EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec with all its settings spelled out, so that a plan does not depend on a default of ours.

    Attributes:
        name: png, jpeg or webp.
        settings: every setting of that codec; `Codec.of` fills in the defaults.
    """

    name: str
    settings: Mapping[str, int | str | bool]

    def __post_init__(self) -> None:
        if self.name not in DEFAULTS:
            raise InputError(f"codec {self.name!r} is not known, use one of {', '.join(DEFAULTS)}")
        if set(self.settings) != set(DEFAULTS[self.name]):
            raise InputError(
                f"codec {self.name} has settings {', '.join(DEFAULTS[self.name])}, not {', '.join(self.settings)}"
            )
        for key, value in self.settings.items():
            allowed = _ALLOWED[self.name, key]
            if type(value) is not type(allowed[0]) or value not in allowed:
                shown = f"{allowed[0]}..{allowed[-1]}" if isinstance(value, int) else ", ".join(map(str, allowed))
                raise InputError(f"codec {self.name}: {key} is {value!r}, allowed: {shown}")

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any] | None = None) -> "Codec":
        """Return a codec with defaults filled in."""
        return cls(name=name, settings={**DEFAULTS.get(name, {}), **(settings or {})})

    @property
    def extension(self) -> str:
        """File extension of a stored image, without the dot."""
        return EXTENSIONS[self.name]

    def to_json(self) -> dict[str, Any]:
        """Return `{"name": ..., "settings": {...}}`."""
        return {"name": self.name, "settings": dict(self.settings)}
