"""Pixels as codes: an image [H, W, C] is a map of H rows and W C columns, the channels of a pixel side by side.

In raster order a channel then follows those before it in its pixel, as PixelCNN orders them (van den Oord et al. 2016).
"""

import numpy as np
import torch
from torch import Tensor

from caskit.gen.autoregressive.variants import VariantImages
from caskit.train.images import Images

NUM_VALUES = 256


class PixelMaps:
    """The images of a set as maps of codes, made when they are asked for.

    With `mirrored` the mirror image of each follows, after all of them.
    """

    def __init__(self, images: Images, num: int, *, mirrored: bool) -> None:
        """Take the images, and their number."""
        self._images = VariantImages(images, num, mirrored=mirrored, shifts=0)
        self.shape = (len(self._images), images.height, images.width * images.channels)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Return maps, [n] int64 to [n, H, W C] uint16."""
        return self._images.batch(ids).reshape(len(ids), *self.shape[1:]).astype(np.uint16)


def to_images(maps: Tensor, channels: int) -> np.ndarray:
    """Return the images [N, H, W, C] uint8 of maps [N, H, W C] of values 0..255."""
    values: np.ndarray = maps.to(torch.uint8).cpu().numpy()
    num, height, columns = values.shape
    return values.reshape(num, height, columns // channels, channels)
