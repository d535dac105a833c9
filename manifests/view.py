"""view.json: a part of a set that can stand alone, with the proof that its samples belong to the whole."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.classes import ClassList, sample_key
from caskit.manifests.errors import InputError
from caskit.manifests.imported import Import
from caskit.manifests.ingest import Ingest
from caskit.manifests.plan import FORMAT_VERSION, Plan, check_fields, check_format_version
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.replica import Replica

Whole = Plan | Ingest | Reconstruction | Import
WHOLES: dict[str, type[Whole]] = {record.KIND: record for record in (Plan, Ingest, Reconstruction, Import)}
KEYS = "keys"
CLASSES = "classes"
_CLASSES = re.compile(r"classes:(0|[1-9][0-9]{0,8})(,(0|[1-9][0-9]{0,8}))*")
_SHARDS = re.compile(r"first-shards:[1-9][0-9]{0,8}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """Which samples of which set a view holds, and why they are that set's.

    Attributes:
        parent: the whole set's identity.
        origin: its record of origin, whose digest is parent.origin_sha256.
        select: `classes:3,7` (labels, ascending), `first-shards:K`, or `keys`: what the rows say.
        histogram: samples of the view per class.
        proof: see membership.py; with the rows it gives parent.content_root.
    """

    KIND: ClassVar = "view"
    FILE: ClassVar = "view.json"

    format_version: int = FORMAT_VERSION
    parent: Replica
    origin: Whole
    select: str
    histogram: tuple[int, ...]
    proof: tuple[str, ...]

    def __post_init__(self) -> None:
        check_format_version(self.format_version, name=self.FILE)
        if self.parent.kind not in WHOLES or self.parent.kind != self.origin.KIND:
            raise InputError(f"view.json: parent is a {self.parent.kind} set, allowed: {', '.join(WHOLES)}")
        if self.origin.origin_id != self.parent.origin_sha256:
            raise InputError("view.json: origin is not the record that parent names by its digest")
        if self.classes.digest != self.parent.class_list_sha256 or self.origin.num != self.parent.num_samples:
            raise InputError("view.json: classes or number of samples of parent and origin differ")
        if not isinstance(self.select, str) or not (
            self.select == KEYS or _CLASSES.fullmatch(self.select) or _SHARDS.fullmatch(self.select)
        ):
            raise InputError(f"view.json: select is {self.select!r}, allowed: classes:N,N, first-shards:K, keys")
        whole = self.origin.histogram
        if len(self.histogram) != len(whole) or not all(
            type(n) is int and 0 <= n <= all_of for n, all_of in zip(self.histogram, whole, strict=True)
        ):
            raise InputError("view.json: histogram has other classes than the parent, or more samples of one")
        if not all(isinstance(h, str) and re.fullmatch("[0-9a-f]{64}", h) for h in self.proof):
            raise InputError("view.json: proof must be a list of hashes of 64 lower-case hex digits")

    @property
    def classes(self) -> ClassList:
        """The class list, the parent's."""
        return self.origin.classes

    @property
    def num(self) -> int:
        """Number of samples."""
        return sum(self.histogram)

    @property
    def samples_per_shard(self) -> int:
        """The parent's, so that first shards keep their bytes."""
        return self.origin.samples_per_shard

    @property
    def num_shards(self) -> int:
        """Number of shards; the last one may be short."""
        return -(-self.num // self.samples_per_shard)

    @property
    def origin_id(self) -> str:
        """SHA-256 of view.json, 64 hex digits."""
        return sha256_hex(self.to_bytes())

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {
            "format_version": self.format_version,
            "parent": dataclasses.asdict(self.parent),
            "origin": self.origin.to_json(),
            "select": self.select,
            "histogram": list(self.histogram),
            "proof": list(self.proof),
        }

    def to_bytes(self) -> bytes:
        """Return the bytes of view.json."""
        return canonical_json(self.to_json())

    @classmethod
    def from_json(cls, value: Any, *, name: str = "view.json") -> "View":
        """Build the record from the parsed view.json. Raises InputError naming what is wrong."""
        check_fields(value, cls, name=name)
        parent = Replica.from_json(value["parent"], name=f"{name}: parent")
        if parent.kind not in WHOLES:
            raise InputError(f"{name}: parent is a {parent.kind} set, allowed: {', '.join(WHOLES)}")
        origin = WHOLES[parent.kind].from_json(value["origin"], name=f"{name}: origin")
        for field in ("histogram", "proof"):
            if not isinstance(value[field], list):
                raise InputError(f"{name}: {field} is no list")
        fields = {"histogram": tuple(value["histogram"]), "proof": tuple(value["proof"])}
        return cls(**{**value, "parent": parent, "origin": origin, **fields})


def chosen_ordinals(origin: Whole, select: str) -> dict[int, list[int]]:
    """Return by label the ordinals that `classes:...` or `first-shards:K` selects, ascending.

    Raises:
        InputError: no such class or shard, or a set whose first samples need not be of all classes.
    """
    kind, _, text = select.partition(":")
    if kind == CLASSES:
        labels = [int(number) for number in text.split(",")]
        if labels != sorted(set(labels)) or labels[-1] >= len(origin.classes):
            raise InputError(f"{select}: labels are 0..{len(origin.classes) - 1}, ascending, each once")
        chosen = {label: list(range(origin.histogram[label])) for label in labels}
    else:
        assert kind == "first-shards", f"select {select}"
        if not isinstance(origin, Plan | Import):
            raise InputError(f"{select}: the first samples of a {origin.KIND} set need not be of all classes")
        if int(text) > origin.num_shards:
            raise InputError(f"{select}: the set has {origin.num_shards} shards")
        chosen = {}
        columns = origin.draw_order.assign(0, min(origin.num, int(text) * origin.samples_per_shard))
        for label, ordinal in zip(*(column.tolist() for column in columns), strict=True):
            chosen.setdefault(label, []).append(ordinal)
        chosen = {label: sorted(ordinals) for label, ordinals in chosen.items()}
    return {label: ordinals for label, ordinals in chosen.items() if ordinals}


def ordinals_of_keys(origin: Whole, keys: Sequence[str]) -> Mapping[int, list[int]]:
    """Return by label the ordinals of some keys, ascending. Raises InputError naming a key that the set has not."""
    labels = {class_id: label for label, class_id in enumerate(origin.classes.ids)}
    chosen: dict[int, list[int]] = {}
    for key in keys:
        class_id, _, digits = key.rpartition("_")
        ordinal = int(digits) if re.fullmatch("[0-9]{6,15}", digits) else -1
        label = labels.get(class_id, -1)
        if label < 0 or not 0 <= ordinal < origin.histogram[label] or sample_key(class_id, ordinal) != key:
            raise InputError(f"key {key!a} is none of the set's")
        chosen.setdefault(label, []).append(ordinal)
    for label, ordinals in chosen.items():
        if len(set(ordinals)) != len(ordinals):
            twice = next(o for o in ordinals if ordinals.count(o) > 1)
            raise InputError(f"key {sample_key(origin.classes.ids[label], twice)} is asked for twice")
    return {label: sorted(ordinals) for label, ordinals in chosen.items()}
