"""Which samples an optimizer step sees: a pure function of (seed, step), so a run's position is its step number."""

import hashlib
import struct

import numpy as np

from caskit.manifests.seeds import philox_words

_EPOCH_DOMAIN = b"caskit/epoch/1\0"


def epoch_words(seed: int, epoch: int, draw: str, num: int) -> np.ndarray:
    """Return one word per sample_id of a set of `num` for one epoch, [num] uint64."""
    key = hashlib.sha256(_EPOCH_DOMAIN + struct.pack(">2Q", seed, epoch)).digest()[:16]
    return philox_words(key, draw, 0, num)


def epoch_order(seed: int, epoch: int, num: int) -> np.ndarray:
    """Return the order of one epoch, a permutation of the sample ids, [num] int64."""
    order: np.ndarray = np.argsort(epoch_words(seed, epoch, "order", num), kind="stable")
    return order


class Order:
    """Steps over a set of `num` samples in batches of one size; a batch may end one epoch and begin the next."""

    def __init__(self, num: int, batch_size: int, seed: int) -> None:
        assert num > 0 and batch_size > 0, f"{num} samples in batches of {batch_size}"
        self.num, self.batch_size, self.seed = num, batch_size, seed
        self._epochs: dict[int, np.ndarray] = {}

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            self._epochs = {e: o for e, o in self._epochs.items() if e == epoch - 1}
            self._epochs[epoch] = epoch_order(self.seed, epoch, self.num)
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
