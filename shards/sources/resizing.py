"""Real images at one size: the largest centred square, resampled with an antialiasing filter, stored as RGB.

The paper's rows have a resolution, its text does not say how the real images came to it (only that evaluation takes a
centre crop and resamples with a bicubic filter); so crop and filter are stated in the set's record.

- Grey becomes colour of three equal channels, CMYK is converted as Pillow does, transparency is dropped, as
  TensorFlow's decoders and torchvision's folders do with ImageNet. Orientation tags and colour
  profiles are not applied.
- `adm` is the preprocessing of guided-diffusion, which DiT and many others took over: halved with a box filter while
  the shorter side is at least twice the one asked for, the whole image bicubic to that side, then the centre crop.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.plan import MAX_SIDE
from caskit.shards.codecs import encode
from caskit.shards.sources.imagefolder import read_pixels
from caskit.shards.sources.source import StoredImage

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}
ADM = "adm"
FILTERS = (*_FILTERS, ADM)
CHANNELS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resize:
    """Makes stored images of files' bytes: decode, crop, resample, encode.

    Attributes:
        side: height and width in pixels; smaller images are enlarged.
        filter: one of FILTERS.
        codec: how the result is stored.
    """

    side: int
    filter: str = "bicubic"
    codec: Codec = dataclasses.field(default_factory=lambda: Codec.of("png"))

    def __post_init__(self) -> None:
        if type(self.side) is not int or not 1 <= self.side <= MAX_SIDE:
            raise InputError(f"resolution is {self.side!r}, allowed: 1..{MAX_SIDE}")
        if self.filter not in FILTERS:
            raise InputError(f"filter is {self.filter!r}, allowed: {', '.join(FILTERS)}")

    @property
    def stored_as(self) -> Mapping[str, Any]:
        """What ingest.json says about the images, docs/format.md rule 7.2."""
        resize = {"side": self.side, "crop": "centre", "filter": self.filter}
        return {**self.codec.to_json(), "channels": CHANNELS, "resize": resize}

    def __call__(self, data: bytes) -> StoredImage:
        """Return one stored image. Raises UndecodableImage."""
        pixels = encode(self.pixels(read_pixels(data)), self.codec)
        return StoredImage(
            data=pixels, extension=self.codec.extension, width=self.side, height=self.side, channels=CHANNELS
        )

    def pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Return an image at this size, [side, side, 3] uint8, from [H, W, 1 or 3 or 4] uint8."""
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[:, :, :3]))
        image = self._adm(image) if self.filter == ADM else self._square(image)
        return np.asarray(image.convert("RGB"))

    def _square(self, image: Image.Image) -> Image.Image:
        short = min(image.size)
        # Cropped before and not while resampling: no pixel outside the square counts.
        square = _centre(image, short)
        return square.resize((self.side, self.side), _FILTERS[self.filter])

    def _adm(self, image: Image.Image) -> Image.Image:
        while min(image.size) >= 2 * self.side:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        scale = self.side / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        return _centre(image.resize(size, Image.Resampling.BICUBIC), self.side)


def _centre(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
