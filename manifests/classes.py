"""The class list: which labels a set has, how its keys spell them, and what people call them."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import InputError

CLASS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MAX_NAME_CHARACTERS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassList:
    """The classes of a set in label order.

    Attributes:
        ids: one per label, ASCII without dots, the first part of every key of that class (a wnid, or `c07`).
        names: one per label, for people.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.ids or len(self.ids) != len(self.names):
            raise InputError(f"class list has {len(self.ids)} ids and {len(self.names)} names, needs one name per id")
        for label, class_id in enumerate(self.ids):
            if not isinstance(class_id, str) or CLASS_ID.fullmatch(class_id) is None:
                raise InputError(f"class {label}: id {class_id!r} is not allowed, use {CLASS_ID.pattern}")
        for label, name in enumerate(self.names):
            if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS:
                raise InputError(f"class {label}: name must be text of at most {MAX_NAME_CHARACTERS} characters")
        if len(set(self.ids)) != len(self.ids):
            twice = sorted(class_id for class_id, count in Counter(self.ids).items() if count > 1)
            raise InputError(f"class ids appear more than once: {', '.join(twice[:5])}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """SHA-256 of classes.json, 64 hex digits."""
        return sha256_hex(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the bytes of classes.json: `[{"id": ..., "name": ...}, ...]` in label order, canonical."""
        return canonical_json([{"id": i, "name": n} for i, n in zip(self.ids, self.names, strict=True)])

    @classmethod
    def from_json(cls, value: Any, *, name: str = "classes.json") -> "ClassList":
        """Build a class list from the parsed classes.json. Raises InputError for anything of another form."""
        if not isinstance(value, list) or not all(isinstance(c, dict) and set(c) == {"id", "name"} for c in value):
            raise InputError(f'{name}: must be a list of {{"id", "name"}} objects')
        return cls(ids=tuple(c["id"] for c in value), names=tuple(c["name"] for c in value))

    @classmethod
    def of_names(cls, names: Sequence[str]) -> "ClassList":
        """Take names as ids where all of them can be, and number the classes otherwise."""
        fit = all(CLASS_ID.fullmatch(name) for name in names)
        return cls(ids=tuple(names), names=tuple(names)) if fit else cls.from_names(names)

    @classmethod
    def from_names(cls, names: Sequence[str]) -> "ClassList":
        """Number the classes `c00`, `c01`, ... for sets whose names do not fit into a key."""
        width = max(2, len(str(len(names) - 1)))
        return cls(ids=tuple(f"c{label:0{width}d}" for label in range(len(names))), names=tuple(names))


def sample_key(class_id: str, ordinal: int) -> str:
    """Spell a sample's key, `n01440764_000123`: unique in a set, no dot (WebDataset ends a key at the first one)."""
    return f"{class_id}_{ordinal:06d}"


def sample_keys(classes: ClassList, labels: np.ndarray, ordinals: np.ndarray) -> list[str]:
    """Spell the keys of samples given by their labels and ordinals, [N] int64 each, as `sample_key` does."""
    ids = classes.ids
    places = zip(labels.tolist(), ordinals.tolist(), strict=True)
    return [f"{ids[label]}_{ordinal:06d}" for label, ordinal in places]
