"""Which samples an optimizer step sees: a pure function of (seed, step), so a run's position is its step number.

With blocks, for disks that hate random reads: the sample ids are cut into blocks of `block` that follow each other, as
they do in the tars; the blocks are shuffled, and the samples of every `window` of them that stand together then are
shuffled among each other. So an epoch asks for `window * block` samples at a time, read in runs of `block`.
"""

import hashlib
import struct

import numpy as np

from caskit.manifests.seeds import philox_words

_EPOCH_DOMAIN = b"caskit/epoch/1\0"


def epoch_words(seed: int, epoch: int, draw: str, num: int) -> np.ndarray:
    """Return one word per sample_id of a set of `num` for one epoch, [num] uint64."""
    key = hashlib.sha256(_EPOCH_DOMAIN + struct.pack(">2Q", seed, epoch)).digest()[:16]
    return philox_words(key, draw, 0, num)


def epoch_order(seed: int, epoch: int, num: int, *, block: int = 0, window: int = 0) -> np.ndarray:
    """Return the order of one epoch, a permutation of the sample ids, [num] int64; `block` 0 shuffles all of them.

    With blocks it is the order by (window, word of the sample's own, sample id); block i is in window rank(i) // window
    by the order of the blocks' words.
    """
    words = epoch_words(seed, epoch, "order", num)
    if block == 0:
        return np.argsort(words, kind="stable")
    num_blocks = -(-num // block)
    ranks = np.empty(num_blocks, dtype=np.int64)
    ranks[np.argsort(epoch_words(seed, epoch, "blocks", num_blocks), kind="stable")] = np.arange(num_blocks)
    return np.lexsort((words, ranks[np.arange(num) // block] // window))


class Order:
    """Steps over a set of `num` samples in batches of one size; a batch may end one epoch and begin the next."""

    def __init__(self, num: int, batch_size: int, seed: int, *, block: int = 0, window: int = 0) -> None:
        assert num > 0 and batch_size > 0, f"{num} samples in batches of {batch_size}"
        self.num, self.batch_size, self.seed, self.block, self.window = num, batch_size, seed, block, window
        self._epochs: dict[int, np.ndarray] = {}

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            self._epochs = {e: o for e, o in self._epochs.items() if e == epoch - 1}
            self._epochs[epoch] = epoch_order(self.seed, epoch, self.num, block=self.block, window=self.window)
        return self._epochs[epoch]

    def batch(self, step: int) -> list[tuple[int, np.ndarray]]:
        """Return what step `step` sees: (epoch, sample ids [n] int64) pairs of batch_size samples together."""
        parts = []
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        while start < stop:
            epoch, offset = divmod(start, self.num)
            ids = self._epoch(epoch)[offset : offset + stop - start]
            parts.append((epoch, ids))
            start += len(ids)
        return parts

    def windows(self, step: int, num: int = 2) -> list[tuple[tuple[int, int], np.ndarray]]:
        """Return the window that a step begins in and the next ones: (epoch, number) and sample ids [n] int64.

        Short windows are of the end of the set, wherever they stand, so a window begins where its number says or less
        than a block before: near enough to read ahead by. After an epoch's last window comes the next one's first.
        """
        size, found = self.block * self.window, []
        epoch, offset = divmod(step * self.batch_size, self.num)
        place = offset // size
        for _ in range(num):
            found.append(((epoch, place), self._epoch(epoch)[place * size : (place + 1) * size]))
            place += 1
            if place * size >= self.num:
                epoch, place = epoch + 1, 0
        return found
