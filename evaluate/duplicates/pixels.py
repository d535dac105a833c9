"""The images of a set as short vectors of pixels, and the digest of what each one decodes to."""

import dataclasses
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from caskit.evaluate.overlap import DIGEST_BYTES, image_digest
from caskit.manifests.errors import InputError, NotFinished
from caskit.shards.dataset import FrozenSet

MAX_VALUES = 1024  # per vector: up to here sums of products are whole numbers that a float32 holds
MAX_BYTES = 4 * 2**30  # of all vectors of a search
_THREADS = 2
_CHUNK = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels:
    """A set's images at a reduced size.

    Attributes:
        name: of the set in messages.
        keys: [N].
        labels: [N] int64.
        digests: [N] of 32 bytes, of the decoded pixels at full size; zeros for an image of one colour.
        vectors: [N, D] uint8, the pixels at the reduced size.
    """

    name: str
    keys: list[str]
    labels: np.ndarray
    digests: np.ndarray
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def blank(self) -> np.ndarray:
        """Which images have one colour only, [N] bool."""
        found: np.ndarray = self.digests == np.void(bytes(DIGEST_BYTES))
        return found


def largest_side(channels: int) -> int:
    """Return the largest side of square images whose vectors are short enough: 32 for grey ones, 18 for colour."""
    return math.isqrt(MAX_VALUES // channels)


def read_pixels(
    data: FrozenSet,
    name: str,
    *,
    side: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Pixels:
    """Decode every image of a set once.

    Args:
        data: an open set.
        name: what to call it.
        side: images of another size are resized to side x side, by averaging over the area of each new pixel.
        progress: told images done and their total.
        stop: asked now and then.

    Raises:
        IntegrityError: an image is damaged.
        NotFinished: `stop` said so.
    """
    if not 1 <= side <= largest_side(data.channels):
        raise InputError(
            f"side is {side}, allowed for images of {data.channels} channels: 1..{largest_side(data.channels)}"
        )
    num = len(data)
    vectors = np.empty((num, side * side * data.channels), dtype=np.uint8)
    digests = np.zeros(num, dtype=f"V{DIGEST_BYTES}")

    def fill(start: int) -> None:
        for place in range(start, min(start + _CHUNK, num)):
            pixels = data.image(place)
            digests[place] = np.void(image_digest(pixels))
            vectors[place] = reduced(pixels, side).reshape(-1)

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, num, _CHUNK * _THREADS):
            if stop():
                raise NotFinished(f"duplicates: stopped after {start} of {num} images of {name} were read")
            end = min(start + _CHUNK * _THREADS, num)
            list(pool.map(fill, range(start, end, _CHUNK)))
            progress(end, num)
    return Pixels(name=name, keys=data.keys, labels=data.labels, digests=digests, vectors=vectors)


def reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize an image [H, W, C] uint8 to [side, side, C] uint8 by averaging areas; one of that size stays as it is."""
    if pixels.shape[:2] == (side, side):
        return pixels
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(pixels[:, :, c])).resize((side, side), Image.Resampling.BOX))
        for c in range(pixels.shape[2])
    ]
    return np.stack(planes, axis=2)
