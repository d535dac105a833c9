"""Which part of an image is seen: random crops for training, the centre for tests."""

import dataclasses
import math

import numpy as np

from caskit.train.draws import Draws
from caskit.train.recipes import Recipe
from caskit.train.resampling import resize

ASPECTS = (3 / 4, 4 / 3)  # width over height
NUM_TRIES = 10
# TensorFlow's default: a crop shows at least so much of the object, which is the whole image where no box is given.
_MIN_COVERED = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """Rows top to top + height, columns left to left + width, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return that part of an image [H, W, C], no copy."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


def centre_box(height: int, width: int, share: float) -> Box:
    """Return the centre square whose side is a share of the shorter side, rounded down, at least a pixel.

    With 224/256 it is that of the paper's classifier (resnet_preprocessing.py: _decode_and_center_crop).
    """
    side = max(1, int(share * min(height, width)))
    return Box(top=(height - side + 1) // 2, left=(width - side + 1) // 2, height=side, width=side)


def inception_box(height: int, width: int, area: tuple[float, float], draws: Draws) -> Box | None:
    """Draw a crop as tf.image.sample_distorted_bounding_box does; None if all tries fail.

    The aspect is uniform, and so is the height between those of the smallest and the largest area, which makes small
    crops more frequent than a uniform area does. Corners are never the last possible ones: that, too, is TensorFlow's.
    """
    for _ in range(NUM_TRIES):
        aspect = ASPECTS[0] + draws.uniform() * (ASPECTS[1] - ASPECTS[0])
        box = _inception_try(height, width, area, aspect, draws)
        if box is not None and box.height * box.width >= _MIN_COVERED * height * width:
            return box
    return None


def _inception_try(height: int, width: int, area: tuple[float, float], aspect: float, draws: Draws) -> Box | None:
    smallest, largest = (share * height * width for share in area)
    low, high = (round(math.sqrt(pixels / aspect)) for pixels in (smallest, largest))
    if round(high * aspect) > width:
        high = int((width + 0.5 - 1e-7) / aspect)
        high -= round(high * aspect) > width
    high = min(high, height)
    tall = high if low >= high else low + draws.below(high - low + 1)
    wide = round(tall * aspect)
    if tall * wide < smallest:  # by rounding
        tall += 1
        wide = round(tall * aspect)
    if tall * wide > largest:
        tall -= 1
        wide = round(tall * aspect)
    if not (smallest <= tall * wide <= largest and 0 < wide <= width and 0 < tall <= height):
        return None
    top = draws.below(height - tall) if tall < height else 0
    left = draws.below(width - wide) if wide < width else 0
    return Box(top=top, left=left, height=tall, width=wide)


def uniform_area_box(height: int, width: int, area: tuple[float, float], draws: Draws) -> Box:
    """Draw a crop as torchvision and timm do: uniform area, uniform logarithm of the aspect, any place.

    If all tries fail, it is the largest centre crop with an allowed aspect.
    """
    lowest, highest = (math.log(aspect) for aspect in ASPECTS)
    for _ in range(NUM_TRIES):
        pixels = height * width * (area[0] + draws.uniform() * (area[1] - area[0]))
        aspect = math.exp(lowest + draws.uniform() * (highest - lowest))
        wide, tall = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            top, left = draws.below(height - tall + 1), draws.below(width - wide + 1)
            return Box(top=top, left=left, height=tall, width=wide)
    wide = min(width, round(height * ASPECTS[1]))
    tall = min(height, round(width / ASPECTS[0]))
    return Box(top=(height - tall) // 2, left=(width - wide) // 2, height=tall, width=wide)


class Cropper:
    """The recipe's random crops, resized; a pure function of (seed, epoch, sample)."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe, self.seed = recipe, seed

    def apply(self, images: list[np.ndarray], epoch: int, ids: np.ndarray) -> np.ndarray:
        """Crop the images of samples `ids`, each [H, W, C] uint8, to [n, side, side, C], see `resize`."""
        recipe, found = self.recipe, []
        for image, sample in zip(images, ids.tolist(), strict=True):
            draws = Draws(self.seed, "crop", epoch, sample)
            height, width, _ = image.shape
            box: Box | None
            if recipe.crop == "uniform-area":
                box = uniform_area_box(height, width, recipe.crop_area, draws)
            else:
                box = inception_box(height, width, recipe.crop_area, draws)
            if box is None or ((box.height, box.width) == (height, width) and recipe.crop == "inception"):
                box = centre_box(height, width, recipe.eval_crop)  # the whole image counts as a failure there
            found.append(resize(box.cut(image), recipe.resolution, recipe.interpolation))
        return np.stack(found)


def centre_crops(images: list[np.ndarray] | np.ndarray, recipe: Recipe) -> np.ndarray:
    """Return what the network is tested on, [n, side, side, C]: images as they are for a recipe without crops."""
    if recipe.crop == "none":
        return np.asarray(images)
    found = []
    for image in images:
        height, width, _ = image.shape
        box = centre_box(height, width, recipe.eval_crop)
        found.append(resize(box.cut(image), recipe.test_resolution, recipe.interpolation))
    return np.stack(found)
