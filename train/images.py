"""Batches of a frozen set's images: held in memory as pixels or as stored where they fit, else read as they are needed.

What is held follows from the set's own numbers and the budget, and no pixel depends on it:

`pixels`   images of one size whose decoded bytes fit
`rows`     stored bytes that fit; an image is decoded each time it is asked for
`nothing`  neither fits; an image is read from its tar and decoded each time
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from torch.utils.data import get_worker_info

from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards.mixture import TrainingSet
from caskit.shards.plain import reduced_jpeg

MAX_MEMORY_BYTES = 2 * 2**30
HELD = ("pixels", "rows", "nothing")
_READERS = 4
_CHUNK = 1024


class HeldRows:
    """The stored bytes of a set one after the other, in one buffer that forked workers share."""

    def __init__(self, data: TrainingSet) -> None:
        """Read the whole set in its order."""
        self._bytes = np.empty(data.stored_bytes, dtype=np.uint8)
        self._ends, end = np.zeros(len(data) + 1, dtype=np.int64), 0
        for start in range(0, len(data), _CHUNK):
            for place, row in enumerate(data.rows(np.arange(start, min(start + _CHUNK, len(data)))), start + 1):
                self._bytes[end : end + len(row)] = np.frombuffer(row, dtype=np.uint8)
                end += len(row)
                self._ends[place] = end
        assert end == len(self._bytes), "rows have the lengths of the manifest"

    def rows(self, ids: np.ndarray) -> list[bytes]:
        """Return the stored bytes of some samples, [n] int64."""
        held = self._bytes.data
        return [bytes(held[start:end]) for start, end in zip(*self._spans(ids), strict=True)]

    def _spans(self, ids: np.ndarray) -> tuple[list[int], list[int]]:
        return self._ends[ids].tolist(), self._ends[ids + 1].tolist()


class Images:
    """The images of a set by sample_id.

    Attributes:
        height, width: of every image; those of the largest if `one_size` is False.
        channels: of every image.
        held: one of HELD.
        held_bytes: what it takes.
    """

    def __init__(
        self,
        data: TrainingSet,
        *,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        one_size: bool = True,
        hold: tuple[str, ...] = ("pixels",),
        threads: int = _READERS,
    ) -> None:
        """Hold the images, or be ready to read them.

        Args:
            data: an open set.
            max_memory_bytes: what is held may take, in each process that trains; its workers share it.
            one_size: whether images of several sizes are refused, with InputError.
            hold: what may be held, of HELD; what is read once only need not be.
            threads: that decode what is asked for; a worker process has one.
        """
        self._heights, self._widths = (data.table.column(name).to_numpy() for name in ("height", "width"))
        heights, widths = np.unique(self._heights), np.unique(self._widths)
        alike = len(heights) == len(widths) == 1
        if one_size and not alike:
            raise InputError(
                f"{data.store.location}: images are from {widths[0]}x{heights[0]} to {widths[-1]}x{heights[-1]} "
                "pixels, this recipe needs images of one size"
            )
        self.height, self.width, self.channels = int(heights[-1]), int(widths[-1]), data.channels
        self._data, self._threads = data, threads
        self._all: np.ndarray | None = None
        self._reader: TrainingSet | HeldRows = data
        self.held, self.held_bytes = "nothing", 0
        num_bytes = len(data) * self.height * self.width * self.channels
        if "pixels" in hold and alike and num_bytes <= max_memory_bytes:
            self._all = data.arrays(max_bytes=max_memory_bytes)[0]
            self.held, self.held_bytes = "pixels", num_bytes
        elif "rows" in hold and data.stored_bytes <= max_memory_bytes:
            self._reader = HeldRows(data)
            self.held, self.held_bytes = "rows", data.stored_bytes

    def rows(self, ids: np.ndarray) -> list[bytes]:
        """Return the stored bytes of some samples, [n] int64, from memory if rows are held."""
        return self._reader.rows(ids)

    def batch(self, ids: np.ndarray) -> np.ndarray:
        """Return the images of some samples, [n] int64 to [n, H, W, C] uint8; they have to be of one size."""
        if self._all is not None:
            held: np.ndarray = self._all[ids]
            return held
        found = np.empty((len(ids), self.height, self.width, self.channels), dtype=np.uint8)

        def fill(places: np.ndarray) -> None:
            for place, pixels in zip(places.tolist(), self._decoded(ids[places], None), strict=True):
                found[place] = pixels

        self._shared_out(fill, len(ids))
        return found

    def each(self, ids: np.ndarray, scales: np.ndarray | None = None) -> list[np.ndarray]:
        """Return the images of some samples, [n] int64, each [H, W, C] uint8 in its own size.

        With scales, [n] of 1, 2, 4 or 8, a JPEG comes at 1/scale of its size, see `plain.reduced_jpeg`.
        """
        if self._all is not None:
            assert scales is None, "pixels that are held are of full size"
            return [self._all[sample] for sample in ids.tolist()]
        found: list[np.ndarray] = [np.empty(0)] * len(ids)

        def fill(places: np.ndarray) -> None:
            chosen = None if scales is None else scales[places]
            for place, pixels in zip(places.tolist(), self._decoded(ids[places], chosen), strict=True):
                found[place] = pixels

        self._shared_out(fill, len(ids))
        return found

    def expect(self, ids: np.ndarray) -> None:
        """Have the disk read ahead what is asked for soon, [n] int64; does nothing where images are held."""
        if self.held == "nothing":
            self._data.expect(ids)

    def sizes(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return heights and widths of some samples, [n] int64 each."""
        return self._heights[ids], self._widths[ids]

    def _decoded(self, ids: np.ndarray, scales: np.ndarray | None) -> Iterator[np.ndarray]:
        shrunk = [1] * len(ids) if scales is None else scales.tolist()
        places = zip(ids.tolist(), shrunk, *(size.tolist() for size in self.sizes(ids)), strict=True)
        for row, (sample_id, scale, height, width) in zip(self._reader.rows(ids), places, strict=True):
            pixels = None if scale == 1 else reduced_jpeg(row, self.channels, scale)
            if pixels is None:
                pixels = self._data.decoded(sample_id, row)
            if pixels.shape[:2] not in ((height, width), (-(-height // scale), -(-width // scale))):
                raise IntegrityError(
                    f"{self._data.store.location}: sample {sample_id}: image of {pixels.shape[1]}x{pixels.shape[0]}, "
                    f"its row says {width}x{height}"
                )
            yield pixels

    def _shared_out(self, fill: Callable[[np.ndarray], None], num: int) -> None:
        """Call `fill` with the places 0 to num - 1, cut among the threads."""
        threads = min(self._threads, num) if get_worker_info() is None else 1
        if threads <= 1:
            fill(np.arange(num))
            return
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(fill, np.array_split(np.arange(num), threads)):
                pass
