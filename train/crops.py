"""Which part of an image is seen: random crops for training, the centre for tests."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from caskit.shards.plain import SCALES
from caskit.train.draws import Draws
from caskit.train.recipes import Recipe
from caskit.train.resampling import resize

ASPECTS = (3 / 4, 4 / 3)  # width over height
NUM_TRIES = 10
# TensorFlow's default: a crop shows at least so much of the object, which is the whole image where no box is given.
_MIN_COVERED = 0.1


class Source(Protocol):
    """What `Images` gives besides whole images."""

    def sizes(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return heights and widths of some samples, [n] int64 each."""

    def each(self, ids: np.ndarray, scales: np.ndarray | None = None) -> list[np.ndarray]:
        """Return images, each [H, W, C] uint8; JPEGs at 1/scale of their size."""

    def expect(self, ids: np.ndarray) -> None:
        """Have the disk read ahead what is asked for soon."""


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

    def over(self, scale: int) -> "Box":
        """Return its place in an image of 1/scale of the size; see `Cropper`."""
        half = scale // 2
        return Box(
            top=self.top // scale,
            left=self.left // scale,
            height=(self.height + half) // scale,
            width=(self.width + half) // scale,
        )


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
    """The recipe's random crops, resized; a pure function of (seed, epoch, sample).

    With `decode` `reduced` a JPEG comes at 1/s of its size, s the largest of 8, 4 and 2 at which its box still has
    `resolution` pixels in both directions, rounded down; of others s is 1. Its box is drawn for the full size and then
    divided: top and left by s, rounded down, height and width by s, rounded half up, cut off at the image's edge.
    """

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe, self.seed = recipe, seed

    def boxes(self, sizes: Iterable[tuple[int, int]], epoch: int, ids: np.ndarray) -> list[Box]:
        """Draw the crops of samples `ids` from their heights and widths."""
        recipe, found = self.recipe, []
        for (height, width), sample in zip(sizes, ids.tolist(), strict=True):
            draws = Draws(self.seed, "crop", epoch, sample)
            box: Box | None
            if recipe.crop == "uniform-area":
                box = uniform_area_box(height, width, recipe.crop_area, draws)
            else:
                box = inception_box(height, width, recipe.crop_area, draws)
            if box is None or ((box.height, box.width) == (height, width) and recipe.crop == "inception"):
                box = centre_box(height, width, recipe.eval_crop)  # the whole image counts as a failure there
            found.append(box)
        return found

    def scales(self, boxes: list[Box]) -> np.ndarray:
        """Return at which part of its size a JPEG is decoded for each crop, [n] int64 of 1, 2, 4 or 8."""
        shares = [min(box.height, box.width) // self.recipe.resolution for box in boxes]
        return np.array([next((scale for scale in SCALES if scale <= share), 1) for share in shares])

    def cut(self, images: list[np.ndarray], boxes: list[Box]) -> np.ndarray:
        """Cut images, each [H, W, C] uint8, and resize to [n, side, side, C], see `resize`."""
        side, interpolation = self.recipe.resolution, self.recipe.interpolation
        return np.stack([resize(box.cut(image), side, interpolation) for image, box in zip(images, boxes, strict=True)])

    def apply(self, images: list[np.ndarray], epoch: int, ids: np.ndarray) -> np.ndarray:
        """Crop the images of samples `ids`, each [H, W, C] uint8, to [n, side, side, C]."""
        return self.cut(images, self.boxes(((image.shape[0], image.shape[1]) for image in images), epoch, ids))

    def apply_reduced(self, source: Source, epoch: int, ids: np.ndarray) -> np.ndarray:
        """Read the images of samples `ids` at the sizes that their crops need, and crop them as `apply` does."""
        sizes = list(zip(*(size.tolist() for size in source.sizes(ids)), strict=True))
        boxes = self.boxes(sizes, epoch, ids)
        scales = self.scales(boxes)
        images = source.each(ids, scales)
        places = zip(images, boxes, sizes, scales.tolist(), strict=True)
        return self.cut(
            images, [box if image.shape[:2] == size else box.over(scale) for image, box, size, scale in places]
        )


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
