"""The augmented images and labels of every part of every step: a pure function of (seed, step, part)."""

from collections.abc import Callable

import numpy as np

from caskit.train.augment import Augmenter
from caskit.train.crops import Cropper
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
    """

    def __init__(self, recipe: Recipe, read: Read, labels: np.ndarray, *, channels: int, seed: int) -> None:
        self.recipe, self._read, self._labels = recipe, read, labels
        self.order = Order(len(labels), recipe.batch_size, seed)
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
        parts = self.ids(step, part)
        images = [self._augmented(epoch, ids) for epoch, ids in parts]
        return np.concatenate(images), self._labels[np.concatenate([ids for _, ids in parts])]

    def _augmented(self, epoch: int, ids: np.ndarray) -> np.ndarray:
        read = self._read(ids)
        images = np.asarray(read) if self._cropper is None else self._cropper.apply(list(read), epoch, ids)
        images = self._augmenter.apply(images, epoch, ids)
        return images if self._rand is None else self._rand.apply(images, epoch, ids)
