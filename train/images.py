"""Batches of a frozen set's images: held in memory where they fit, read and checked one by one where they do not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet

MAX_MEMORY_BYTES = 2 * 2**30
_READERS = 4


class Images:
    """The images of a set by sample_id, all of one size.

    Attributes:
        height, width, channels: of every image.
    """

    def __init__(self, data: FrozenSet, *, max_memory_bytes: int = MAX_MEMORY_BYTES) -> None:
        heights, widths = (np.unique(data.table.column(name).to_numpy()) for name in ("height", "width"))
        if len(heights) != 1 or len(widths) != 1:
            raise InputError(
                f"{data.store.location}: images are from {widths[0]}x{heights[0]} to {widths[-1]}x{heights[-1]} "
                "pixels, a recipe needs images of one size"
            )
        self.height, self.width, self.channels = int(heights[0]), int(widths[0]), data.channels
        self._data = data
        fits = len(data) * self.height * self.width * self.channels <= max_memory_bytes
        self._all = data.arrays(max_bytes=max_memory_bytes)[0] if fits else None

    def batch(self, ids: np.ndarray) -> np.ndarray:
        """Return the images of some samples, [n] int64 to [n, H, W, C] uint8."""
        if self._all is not None:
            held: np.ndarray = self._all[ids]
            return held
        with ThreadPoolExecutor(_READERS) as pool:
            return np.stack(list(pool.map(self._data.image, ids.tolist())))
