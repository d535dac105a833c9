"""Random flips and shifts, a pure function of (seed, epoch, sample): no worker, rank or order changes an image."""

import numpy as np

from caskit.manifests.errors import InputError
from caskit.train.order import epoch_words

FLIPS = ("none", "random", "alternate")


def check_augmentation(flip: str, shift: int) -> None:
    """Raise InputError unless the settings are among those an `Augmenter` knows."""
    if flip not in FLIPS:
        raise InputError(f"flip is {flip!r}, allowed: {', '.join(FLIPS)}")
    if type(shift) is not int or not 0 <= shift <= 64:
        raise InputError(f"shift is {shift!r}, allowed: 0..64 pixels")


class Augmenter:
    """Mirrors images left-right and moves them by up to `shift` pixels, zeros moving in.

    Args:
        num: samples of the set.
        seed: of the run.
        flip: `none`; `random`, a fair coin per sample and epoch; `alternate`, a coin per sample in the first epoch and
            the other side in every next one, so that two epochs show both (Jordan 2024, arXiv 2404.00498, section 3.6).
        shift: largest move in pixels, uniform in both directions.
    """

    def __init__(self, num: int, seed: int, *, flip: str, shift: int) -> None:
        check_augmentation(flip, shift)
        self.num, self.seed, self.flip, self.shift = num, seed, flip, shift
        self._words: dict[int, np.ndarray] = {}

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._words:
            self._words = {e: w for e, w in self._words.items() if e in (0, epoch - 1)}
            self._words[epoch] = epoch_words(self.seed, epoch, "augment", self.num)
        return self._words[epoch]

    def flips(self, epoch: int, ids: np.ndarray) -> np.ndarray:
        """Return which samples are mirrored, [n] bool: bit 63 of a sample's word."""
        if self.flip == "none":
            return np.zeros(len(ids), dtype=bool)
        source = 0 if self.flip == "alternate" else epoch
        coins = self._epoch(source)[ids] >> np.uint64(63) == 1
        flips: np.ndarray = coins ^ (self.flip == "alternate" and epoch % 2 == 1)
        return flips

    def shifts(self, epoch: int, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return moves down and right, [n] int64 each in -shift..shift: bits 0-30 and 31-61 of a sample's word."""
        words, choices = self._epoch(epoch)[ids], np.uint64(2 * self.shift + 1)
        low = words & np.uint64(2**31 - 1)
        high = words >> np.uint64(31) & np.uint64(2**31 - 1)
        down, right = ((part * choices >> np.uint64(31)).astype(np.int64) - self.shift for part in (low, high))
        return down, right

    def apply(self, images: np.ndarray, epoch: int, ids: np.ndarray) -> np.ndarray:
        """Augment the images of samples `ids`, [n, H, W, C] uint8 to the same shape; flipped first, then moved."""
        if self.flip == "none" and self.shift == 0:
            return images
        if self.shift == 0:  # the same images sooner
            mirrored = images.copy()
            chosen = self.flips(epoch, ids)
            mirrored[chosen] = images[chosen, :, ::-1]
            return mirrored
        _, height, width, _ = images.shape
        down, right = self.shifts(epoch, ids)
        rows = np.arange(height) - down[:, None]  # [n, H], the source row of every target row
        columns = np.arange(width) - right[:, None]
        mirrored = np.where(self.flips(epoch, ids)[:, None], width - 1 - columns, columns)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        samples = np.arange(len(images))[:, None, None]
        moved = images[samples, rows.clip(0, height - 1)[:, :, None], mirrored.clip(0, width - 1)[:, None, :]]
        result: np.ndarray = moved * inside[..., None]
        return result
