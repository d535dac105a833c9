"""Recorded codes: the maps of small integers that a sample was decoded from, and the digest that binds them to its row.

The sidecar that holds them is Parquet, whose bytes are no identity, so the digest is over the encoding below.
"""

import dataclasses
import hashlib
import re
import struct
from collections.abc import Sequence

from caskit.manifests.errors import InputError

MAX_LEVELS = 16
MAX_CODES_SIDE = 4096
MAX_SAMPLE_BYTES = 2**24  # of all levels of one sample
CODE_BYTES = 2  # uint16, little-endian
KEY_COLUMN = "key"
_DOMAIN = b"caskit/codes/1\0"
_LEVEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeLevel:
    """One level of codes: its name, which is its column in the sidecar, and the size of its map."""

    name: str
    height: int
    width: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or _LEVEL_NAME.fullmatch(self.name) is None or self.name == KEY_COLUMN:
            raise InputError(f"level of codes is named {self.name!r}, allowed: {_LEVEL_NAME.pattern}, not {KEY_COLUMN}")
        for name in ("height", "width"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MAX_CODES_SIDE:
                raise InputError(f"level {self.name}: {name} is {value!r}, allowed: 1..{MAX_CODES_SIDE}")

    @property
    def num_bytes(self) -> int:
        """Size of one stored map."""
        return self.height * self.width * CODE_BYTES


def check_levels(levels: Sequence[CodeLevel]) -> None:
    """Raise InputError unless there is a level, not too many or too large ones, and no two of one name."""
    names = [level.name for level in levels]
    if not 1 <= len(names) <= MAX_LEVELS or len(set(names)) != len(names):
        raise InputError(
            f"levels of codes are {', '.join(names) or 'none'}, allowed: 1..{MAX_LEVELS} of different names"
        )
    num_bytes = sum(level.num_bytes for level in levels)
    if num_bytes > MAX_SAMPLE_BYTES:
        raise InputError(f"codes of one sample take {num_bytes} bytes, allowed: {MAX_SAMPLE_BYTES}")


def codes_digest(levels: Sequence[CodeLevel], maps: Sequence[bytes]) -> bytes:
    """Return the digest of one sample's codes, 32 bytes.

    Hashed are the number of levels, then for each its name, height, width and map, so that no two sets of maps share an
    encoding.

    Args:
        levels: in the order in which they are drawn.
        maps: one per level, codes in row-major order as little-endian uint16.
    """
    digest = hashlib.sha256(_DOMAIN + struct.pack(">B", len(levels)))
    for level, codes in zip(levels, maps, strict=True):
        assert len(codes) == level.num_bytes, f"level {level.name}: {len(codes)} bytes, {level.num_bytes} are due"
        name = level.name.encode("ascii")
        digest.update(struct.pack(">B", len(name)) + name + struct.pack(">2I", level.height, level.width))
        digest.update(codes)
    return digest.digest()
