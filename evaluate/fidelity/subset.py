"""Which samples of a set are measured, in which order: its first N are the set in small.

FID depends on N, so N is a part of every metric's name. A synthetic or imported set is read in its own order, whose
beginnings have the whole's label histogram (docs/format.md, 2.1). A real one, stored as it came, and a part of a set
are read in the order that the same rule gives for their histogram and seed 0.
"""

import dataclasses
import hashlib

import numpy as np

from caskit.manifests.errors import InputError
from caskit.manifests.imported import Import
from caskit.manifests.plan import Plan
from caskit.manifests.quota import Quota
from caskit.shards.dataset import FrozenSet

DEFAULT_NUM = 50_000
_DOMAIN = b"caskit/subset/1\0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subset:
    """Some samples of a set.

    Attributes:
        ids: sample_ids in the order in which they are measured, [N] int64.
        labels: theirs, [N] int64.
        sha256: over labels and digests of the stored images in this order, 64 hex digits.
    """

    ids: np.ndarray
    labels: np.ndarray
    sha256: str

    def __len__(self) -> int:
        return len(self.ids)


def measuring_order(data: FrozenSet) -> np.ndarray:
    """Return every sample_id in the order whose first N are a subset of N, [len(data)] int64."""
    if data.replica.kind in (Plan.KIND, Import.KIND):  # not of a view, whose beginning may be of one class
        return np.arange(len(data))
    counts = np.bincount(data.labels, minlength=len(data.classes))
    by_class = np.lexsort((data.table.column("ordinal").to_numpy(), data.labels))
    first = np.cumsum(counts) - counts
    labels, ordinals = Quota(histogram=tuple(counts.tolist()), seed=0).assign(0, len(data))
    order: np.ndarray = by_class[first[labels] + ordinals]
    return order


def take_subset(data: FrozenSet, num: int | None) -> Subset:
    """Return the first `num` samples of a set, or all of them.

    Raises:
        InputError: there are fewer, or fewer than two are asked for.
    """
    if num is not None and not 2 <= num <= len(data):
        raise InputError(f"{data.store.location}: {num} of {len(data)} samples were asked for, allowed: 2 to all")
    if len(data) < 2:
        raise InputError(f"{data.store.location}: holds one sample, a distribution needs two or more")
    ids = measuring_order(data)[:num]
    digests = data.table.column("image_sha256").to_pylist()
    labels = data.labels[ids]
    found = hashlib.sha256(_DOMAIN)
    for sample, label in zip(ids.tolist(), labels.tolist(), strict=True):
        found.update(int(label).to_bytes(8, "big") + digests[sample])
    return Subset(ids=ids, labels=labels, sha256=found.hexdigest())


def number_text(num: int) -> str:
    """Spell N as names of metrics have it: `50k` for whole thousands, else all digits."""
    return f"{num // 1000}k" if num >= 1000 and num % 1000 == 0 else str(num)
