"""Resizing of one image: Pillow's filters, or bicubic as TensorFlow 1 had it."""

import functools

import numpy as np
from PIL import Image

_PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_A = -0.75  # of Keys' kernel; Pillow's has -0.5


def resize(image: np.ndarray, side: int, interpolation: str) -> np.ndarray:
    """Resize an image to a square.

    Args:
        image: [H, W, C] uint8, C 1, 3 or 4.
        side: in pixels.
        interpolation: `bicubic` or `bilinear` of Pillow, whose filters widen when they shrink; `bicubic-tf1` of
            TensorFlow 1, which takes four pixels whatever the scale.

    Returns:
        [side, side, C]: uint8 by Pillow's; float32 in units of 255, not clipped, by `bicubic-tf1`.
    """
    if interpolation == "bicubic-tf1":
        return _bicubic_tf1(image, side)
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))
    resized = np.asarray(picture.resize((side, side), _PILLOW[interpolation]))
    return resized.reshape(side, side, image.shape[2])


@functools.lru_cache(maxsize=4096)
def _taps(size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of `side` targets the four source indices and weights, [side, 4] each.

    Target t looks at t * size / side (no half pixels), indices beyond the edge are those at the edge.
    """
    places = np.arange(side) * (size / side)
    first = np.floor(places)
    near = places - first  # distance from the second of the four pixels
    distances = np.stack([near + 1, near, 1 - near, 2 - near], axis=1)
    inner = ((_A + 2) * distances - (_A + 3)) * distances**2 + 1
    outer = ((_A * distances - 5 * _A) * distances + 8 * _A) * distances - 4 * _A
    weights = np.where(distances <= 1, inner, outer).astype(np.float32)
    indices = (first[:, None].astype(np.int64) + np.arange(-1, 3)).clip(0, size - 1)
    return indices, weights


def _bicubic_tf1(image: np.ndarray, side: int) -> np.ndarray:
    height, width, channels = image.shape
    rows, row_weights = _taps(height, side)
    columns, column_weights = _taps(width, side)
    flat = image.reshape(height, width * channels)
    tall = np.zeros((side, width * channels), dtype=np.float32)
    for tap in range(4):
        tall += row_weights[:, tap, None] * flat[rows[:, tap]]
    tall = tall.reshape(side, width, channels)
    result = np.zeros((side, side, channels), dtype=np.float32)
    for tap in range(4):
        result += column_weights[:, tap, None] * tall[:, columns[:, tap]]
    return result
