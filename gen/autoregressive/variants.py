"""Shifted images beside the images themselves, for priors that would overfit.

A prior learns all variants of an image, told which one it sees by a vector per position, and is sampled as variant 0,
the image where it is. So nothing that is sampled is shifted, unlike with augmentation that a prior is not told about
(compare the augmentation labels of Karras et al. 2022, appendix F.2, and Jun et al. 2020, "Distribution augmentation").
What it gives: docs/LOG.md.
"""

import hashlib
import struct

import numpy as np

from caskit.manifests.seeds import philox_words
from caskit.train.images import Images

PLAIN_SHARE = 0.3  # of a batch that is not shifted: what will be sampled is seen more often than one variant of many
_DOMAIN = b"caskit/variants/1\0"


def shift_offsets(reach: int) -> list[tuple[int, int]]:
    """Return the shifts (down, right) of up to `reach` pixels both ways, no shift first: (2 reach + 1)^2 of them."""
    steps = range(-reach, reach + 1)
    return sorted(((down, right) for down in steps for right in steps), key=lambda offset: offset != (0, 0))


def shifted(images: np.ndarray, offset: tuple[int, int]) -> np.ndarray:
    """Shift images [N, H, W, C] by (down, right) pixels; what moves in repeats the edge."""
    height, width = images.shape[1:3]
    rows = (np.arange(height) - offset[0]).clip(0, height - 1)
    columns = (np.arange(width) - offset[1]).clip(0, width - 1)
    return images[:, rows[:, None], columns]


class VariantImages:
    """The images of a set and what is made of them when it is asked for.

    After the images themselves come, with `mirrored`, their mirror images, then all that again for each shift.

    Attributes:
        num_unshifted: images and mirror images.
        num_variants: shifts, none among them.
    """

    def __init__(self, images: Images, num: int, *, mirrored: bool, shifts: int) -> None:
        """Take the images, and their number."""
        self._images, self._num, self._offsets = images, num, shift_offsets(shifts)
        self.num_unshifted, self.num_variants = 2 * num if mirrored else num, len(self._offsets)

    def __len__(self) -> int:
        return self.num_unshifted * self.num_variants

    def batch(self, ids: np.ndarray) -> np.ndarray:
        """Return images, [n] int64 to [n, H, W, C] uint8."""
        variants, plain = np.divmod(ids, self.num_unshifted)
        pixels = self._images.batch(plain % self._num)
        mirror = (plain >= self._num)[:, None, None, None]
        pixels = np.where(mirror, pixels[:, :, ::-1], pixels)
        for variant in np.unique(variants):
            chosen = variants == variant
            pixels[chosen] = shifted(pixels[chosen], self._offsets[variant])
        return pixels


def draw_variants(seed: int, step: int, num: int, num_variants: int) -> np.ndarray:
    """Return the variants of the images of a step, [num] int64, a pure function of the arguments."""
    if num_variants == 1:
        return np.zeros(num, dtype=np.int64)
    key = hashlib.sha256(_DOMAIN + struct.pack(">2Q", seed, step)).digest()[:16]
    uniform = (philox_words(key, "variants", 0, num) >> np.uint64(11)) * 2.0**-53
    others = (uniform - PLAIN_SHARE) / (1 - PLAIN_SHARE) * num_variants
    drawn: np.ndarray = np.where(uniform < PLAIN_SHARE, 0, others).astype(np.int64)
    return drawn
