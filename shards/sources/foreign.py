"""A source in a file format of others: its samples in their own order, stored in the draw order of a replica.

So every run of shards holds all classes, whichever way the file is sorted, and the first k shards are a fair part.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.quota import Quota
from caskit.shards.codecs import UndecodableImage
from caskit.shards.sources.source import StoredImage, UnreadableImage


class Items(Protocol):
    """The samples of a foreign source in its own order, without their labels. Thread-safe."""

    def name(self, place: int) -> str:
        """Return what the row's `source` says: where the sample stands in the input."""
        ...

    def read(self, place: int) -> StoredImage:
        """Return one image, proven decodable. Raises UndecodableImage or OSError."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForeignSource:
    """The labelled samples of a foreign source, see Source.

    Attributes:
        dataset: the form of the source, one of `manifests.imported.FORMS`.
        items: the samples.
        item_labels: [N] int64, the label of every item.
        kept: [M] int64, ascending places of the items that are samples.
        in_order: samples are stored in the order of the items, for a source that is slow to read in any other.
        settings: how the source was read, text by name.
    """

    dataset: str
    split: str
    classes: ClassList
    files: Mapping[str, str]
    settings: Mapping[str, str]
    codec: Mapping[str, Any]
    items: Items
    item_labels: np.ndarray
    kept: np.ndarray
    licence: str | None = None
    in_order: bool = False

    def __post_init__(self) -> None:
        if not len(self.kept):
            raise InputError(f"{self.dataset}: holds no readable image")

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Every sample's label, [M] int64."""
        return self._order[0]

    @functools.cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        """Label and item of every sample, each [M] int64."""
        item_labels = self.item_labels[self.kept]
        if self.in_order:
            return item_labels, self.kept
        histogram = np.bincount(item_labels, minlength=len(self.classes))
        labels, ordinals = Quota(histogram=tuple(histogram.tolist()), seed=0).assign(0, len(item_labels))
        by_class = self.kept[np.argsort(item_labels, kind="stable")]
        starts = np.cumsum(histogram) - histogram
        return labels, by_class[starts[labels] + ordinals]

    def item(self, sample_id: int) -> int:
        """Return the place of a sample in the source."""
        return int(self._order[1][sample_id])

    def path(self, sample_id: int) -> str:
        """See Source."""
        return self.items.name(self.item(sample_id))

    def size_bytes(self, sample_id: int) -> int | None:
        """See Source."""
        return None

    def read(self, sample_id: int) -> StoredImage:
        """See Source."""
        try:
            return self.items.read(self.item(sample_id))
        except (UndecodableImage, OSError) as error:
            raise UnreadableImage(self.path(sample_id), str(error)) from error

    def without(self, sample_ids: Collection[int]) -> "ForeignSource":
        """See Source."""
        dropped = [self.item(sample_id) for sample_id in sample_ids]
        return dataclasses.replace(self, kept=np.setdiff1d(self.kept, np.asarray(dropped, dtype=np.int64)))
