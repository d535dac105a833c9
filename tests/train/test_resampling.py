import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from caskit.train.resampling import resize

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(30, 41, 24), (5, 7, 24), (24, 24, 24), (100, 33, 10), (1, 2, 3)]
)
def test_bicubic_of_tensorflow_1_is_keys_kernel_at_whole_pixels(height: int, width: int, side: int) -> None:
    """torch samples with the same kernel (-0.75) and edges; the places t * size / side are handed to it."""
    image = RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)
    ys, xs = (np.arange(side) * (size / side) * 2 / max(size - 1, 1) - 1 for size in (height, width))
    grid = torch.from_numpy(np.stack(np.broadcast_arrays(xs[None, :], ys[:, None]), axis=-1))[None]
    pixels = torch.from_numpy(image).double().permute(2, 0, 1)[None]
    sampled = functional.grid_sample(pixels, grid, mode="bicubic", padding_mode="border", align_corners=True)
    ours = resize(image, side, "bicubic-tf1")
    assert ours.dtype == np.float32 and ours.shape == (side, side, 3)
    if height > 1:
        np.testing.assert_allclose(ours, sampled[0].permute(1, 2, 0).numpy(), atol=2e-3)


def test_bicubic_of_tensorflow_1_keeps_its_size_exactly_and_overshoots() -> None:
    image = RANDOM.integers(0, 256, (9, 9, 1), dtype=np.uint8)
    assert np.array_equal(resize(image, 9, "bicubic-tf1"), image)
    edge = np.repeat(np.array([0, 0, 255, 255], dtype=np.uint8), 4).reshape(4, 4, 1)
    bigger = resize(edge, 16, "bicubic-tf1")
    assert bigger.min() < 0 and bigger.max() > 255


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pillows_filters_are_pillows(channels: int, interpolation: str) -> None:
    image = RANDOM.integers(0, 256, (12, 15, channels), dtype=np.uint8)
    ours = resize(image, 7, interpolation)
    assert ours.shape == (7, 7, channels) and ours.dtype == np.uint8
    kind = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    for channel in range(channels if channels < 4 else 0):
        alone = np.asarray(Image.fromarray(image[:, :, channel]).resize((7, 7), kind))
        assert np.array_equal(ours[:, :, channel], alone)
