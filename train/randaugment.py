"""timm's RandAugment as a pure function of (seed, epoch, sample)."""

import random
import threading

import numpy as np
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from caskit.train.draws import Draws
from caskit.train.recipes import Recipe

# timm draws from the global generators, which belong to all threads of a process: of two trainings in one, or of one
# whose thread makes the next images, only one may have set them.
_global_generators = threading.Lock()


class RandAugmenter:
    """Applies a configuration such as `rand-m6-mstd0.5-inc1` to images of one size.

    What moves in from outside has the recipe's mean colour; rotations and shears are bicubic.
    """

    def __init__(self, recipe: Recipe, seed: int, channels: int) -> None:
        mean = recipe.channel_mean or (recipe.mean,) * channels
        self.seed = seed
        options = {
            "translate_const": int(recipe.resolution * 0.45),
            "img_mean": tuple(max(0, min(255, round(255 * m))) for m in mean),
            "interpolation": Image.Resampling.BICUBIC,
        }
        self._augment = rand_augment_transform(recipe.randaugment, options)

    def apply(self, images: np.ndarray, epoch: int, ids: np.ndarray) -> np.ndarray:
        """Augment the images of samples `ids`, [n, H, W, 3] uint8 to the same shape."""
        with _global_generators:
            states = random.getstate(), np.random.get_state()
            try:
                found = []
                for image, sample in zip(images, ids.tolist(), strict=True):
                    draws = Draws(self.seed, "randaugment", epoch, sample)
                    random.seed(draws.word())
                    np.random.seed(draws.below(2**32))
                    found.append(np.asarray(self._augment(Image.fromarray(image))))
                return np.stack(found)
            finally:
                random.setstate(states[0])
                np.random.set_state(states[1])
