"""Batches of a frozen set's images: held in memory where they fit, read and checked one by one where they do not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from caskit.manifests.errors import InputError
from caskit.shards.mixture import TrainingSet

MAX_MEMORY_BYTES = 2 * 2**30
_READERS = 4


class Images:
    """The images of a set by sample_id.

    Attributes:
        height, width: of every image; those of the largest if `one_size` is False.
        channels: of every image.
    """

    def __init__(self, data: TrainingSet, *, max_memory_bytes: int = MAX_MEMORY_BYTES, one_size: bool = True) -> None:
        """Hold the images, or be ready to read them.

        Args:
            data: an open set.
            max_memory_bytes: what the decoded images of one size may take.
            one_size: whether images of several sizes are refused, with InputError.
        """
        heights, widths = (np.unique(data.table.column(name).to_numpy()) for name in ("height", "width"))
        alike = len(heights) == len(widths) == 1
        if one_size and not alike:
            raise InputError(
                f"{data.store.location}: images are from {widths[0]}x{heights[0]} to {widths[-1]}x{heights[-1]} "
                "pixels, this recipe needs images of one size"
            )
        self.height, self.width, self.channels = int(heights[-1]), int(widths[-1]), data.channels
        self._data = data
        fits = alike and len(data) * self.height * self.width * self.channels <= max_memory_bytes
        self._all = data.arrays(max_bytes=max_memory_bytes)[0] if fits else None

    def batch(self, ids: np.ndarray) -> np.ndarray:
        """Return the images of some samples, [n] int64 to [n, H, W, C] uint8; they have to be of one size."""
        if self._all is not None:
            held: np.ndarray = self._all[ids]
            return held
        return np.stack(self.each(ids))

    def each(self, ids: np.ndarray) -> list[np.ndarray]:
        """Return the images of some samples, [n] int64, each [H, W, C] uint8 in its own size."""
        if self._all is not None:
            return [self._all[sample] for sample in ids.tolist()]
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self._data.image, ids.tolist()))
