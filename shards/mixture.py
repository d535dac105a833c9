"""Several frozen sets as one to train on: real images with synthetic ones beside them."""

import functools
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.sets import SetExpression
from caskit.shards.dataset import MAX_ARRAY_BYTES, FrozenSet


class Mixture:
    """The samples of several sets, one set after the other, each once; what training asks of a set.

    Attributes:
        parts: the sets.
        kind: `mixture`.
        classes: of all of them.
        table: their heights and widths.
        labels: [N] int64.
        store: `location` of the parts, for messages.
    """

    def __init__(self, parts: Sequence[FrozenSet]) -> None:
        """Put sets together.

        Raises:
            InputError: they are not real and others, or differ in classes or channels.
        """
        self.parts, self.kind = tuple(parts), "mixture"
        first = self.parts[0]
        kinds = [part.kind for part in self.parts]
        if "real" not in kinds or set(kinds) == {"real"}:
            raise InputError(
                f"{' and '.join(part.store.location for part in self.parts)}: sets of kind {', '.join(kinds)}; several "
                "--data are real images with synthetic ones beside them"
            )
        for part in self.parts[1:]:
            if part.classes.digest != first.classes.digest:
                raise InputError(f"{part.store.location}: class list differs from that of {first.store.location}")
            if part.channels != first.channels:
                raise InputError(
                    f"{part.store.location}: images have {part.channels} channels, those of {first.store.location} "
                    f"{first.channels}"
                )
        ids = [part.replica.replica_id for part in self.parts]
        if len(set(ids)) < len(ids):
            raise InputError(f"{first.store.location}: a set stands in a mixture once, name it once")
        self.classes: ClassList = first.classes
        self.channels = first.channels
        self.table: pa.Table = pa.concat_tables([part.table.select(["height", "width"]) for part in self.parts])
        self.labels: np.ndarray = np.concatenate([part.labels for part in self.parts])
        self.store = SimpleNamespace(location=" + ".join(part.store.location for part in self.parts))
        self._ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def expression(self) -> SetExpression:
        """What a result records: the sources of all parts in their order."""
        return SetExpression(sources=tuple(source for part in self.parts for source in part.expression.sources))

    def image(self, sample_id: int) -> np.ndarray:
        """Return one image, [H, W, C] uint8."""
        part, own = self._place(sample_id)
        return part.image(own)

    def rows(self, ids: np.ndarray) -> list[bytes]:
        """Return the stored bytes of some samples, [n] int64, see `FrozenSet.rows`."""
        found = [b""] * len(ids)
        owners = np.searchsorted(self._ends, ids, side="right")
        for place in np.unique(owners).tolist():
            part, chosen = self.parts[place], np.flatnonzero(owners == place)
            own = ids[chosen] - int(self._ends[place]) + len(part)
            for index, row in zip(chosen.tolist(), part.rows(own), strict=True):
                found[index] = row
        return found

    def decoded(self, sample_id: int, row: bytes) -> np.ndarray:
        """Return what `image` does, from the sample's bytes that `rows` gave."""
        part, own = self._place(sample_id)
        return part.decoded(own, row)

    def expect(self, ids: np.ndarray) -> None:
        """Have the disk read ahead, see `FrozenSet.expect`."""
        owners = np.searchsorted(self._ends, ids, side="right")
        for place in np.unique(owners).tolist():
            part = self.parts[place]
            part.expect(ids[owners == place] - int(self._ends[place]) + len(part))

    @property
    def stored_bytes(self) -> int:
        """What the samples' stored bytes take together."""
        return sum(part.stored_bytes for part in self.parts)

    def _place(self, sample_id: int) -> tuple[FrozenSet, int]:
        place = int(np.searchsorted(self._ends, sample_id, side="right"))
        part = self.parts[place]
        return part, sample_id - int(self._ends[place]) + len(part)

    def arrays(self, *, max_bytes: int = MAX_ARRAY_BYTES) -> tuple[np.ndarray, np.ndarray]:
        """Decode everything, see `FrozenSet.arrays`."""
        decoded = [part.arrays(max_bytes=max_bytes) for part in self.parts]
        return np.concatenate([images for images, _ in decoded]), self.labels.copy()


TrainingSet = FrozenSet | Mixture
