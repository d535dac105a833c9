"""The augmented images and labels of every part of every step: a pure function of (seed, step, part)."""

from collections.abc import Callable

import numpy as np

from caskit.train.augment import Augmenter
from caskit.train.crops import Cropper, Source
from caskit.train.order import Order
from caskit.train.randaugment import RandAugmenter
from caskit.train.recipes import Recipe

Read = Callable[[np.ndarray], np.ndarray | list[np.ndarray]]


class TrainingImages:
    """The augmented images and labels of every part of every step.

    Args:
        recipe: how to train.
        read: returns the images of sample ids, [n] int64 -> n times [H, W, C] uint8.
        labels: [N] int64 by sample_id.
        channels: of the images.
        seed: of order and augmentation.
        source: of images of reduced size and of reading ahead; a recipe with `decode` `reduced` needs one.
    """

    def __init__(
        self,
        recipe: Recipe,
        read: Read,
        labels: np.ndarray,
        *,
        channels: int,
        seed: int,
        source: Source | None = None,
    ) -> None:
        assert source is not None or recipe.decode == "full", "reduced images have a source"
        self.recipe, self._read, self._labels, self._source = recipe, read, labels, source
        self.order = Order(
            len(labels), recipe.batch_size, seed, block=recipe.shuffle_block, window=recipe.shuffle_window
        )
        self._expected: set[tuple[int, int]] = set()  # windows that the disk was told of
        self._cropper = None if recipe.crop == "none" else Cropper(recipe, seed)
        self._augmenter = Augmenter(len(labels), seed, flip=recipe.flip, shift=recipe.shift)
        self._rand = RandAugmenter(recipe, seed, channels) if recipe.randaugment else None

    def ids(self, step: int, part: int) -> list[tuple[int, np.ndarray]]:
        """Return what a part sees: (epoch, sample ids [n] int64) pairs of bn_batch samples together."""
        first, found = part * self.recipe.bn_batch, []
        stop = first + self.recipe.bn_batch
        for epoch, ids in self.order.batch(step):
            chosen = ids[max(0, first) : max(0, stop)]
            if len(chosen):
                found.append((epoch, chosen))
            first, stop = first - len(ids), stop - len(ids)
        return found

    def load(self, step: int, part: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a part's images [bn_batch, H, W, C], uint8 or float32 in units of 255, and labels [bn_batch] int64."""
        self._read_ahead(step)
        parts = self.ids(step, part)
        images = [self._augmented(epoch, ids) for epoch, ids in parts]
        return np.concatenate(images), self._labels[np.concatenate([ids for _, ids in parts])]

    def _read_ahead(self, step: int) -> None:
        if self._source is None or self.recipe.shuffle_block == 0:
            return
        windows = self.order.windows(step)
        size, end = (
            self.recipe.shuffle_block * self.recipe.shuffle_window,
            self.recipe.num_steps * self.recipe.batch_size,
        )
        for window, ids in windows:
            epoch, place = window
            if window not in self._expected and epoch * self.order.num + place * size < end:
                self._source.expect(ids)
        self._expected = {window for window, _ in windows}

    def _augmented(self, epoch: int, ids: np.ndarray) -> np.ndarray:
        if self._cropper is None:
            images = np.asarray(self._read(ids))
        elif self.recipe.decode == "reduced" and self._source is not None:
            images = self._cropper.apply_reduced(self._source, epoch, ids)
        else:
            images = self._cropper.apply(list(self._read(ids)), epoch, ids)
        images = self._augmenter.apply(images, epoch, ids)
        return images if self._rand is None else self._rand.apply(images, epoch, ids)
