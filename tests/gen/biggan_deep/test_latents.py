import math

import numpy as np
import pytest

from caskit.gen.biggan_deep.latents import draw_latents
from caskit.gen.streams import Streams
from caskit.manifests.seeds import stream_key

STREAMS = Streams([stream_key(0, 3, ordinal, 0) for ordinal in range(400)])


def deviation(bound: float) -> float:
    """Standard deviation of the standard normal truncated to -bound..bound."""
    density = math.exp(-bound * bound / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - 2 * bound * density / math.erf(bound / math.sqrt(2)))


@pytest.mark.parametrize(
    ("z_mode", "z_scale", "expected", "bound"),
    [
        ("scale", 0.5, 0.440, 1.0),
        ("scale", 1.0, 0.880, 2.0),
        ("scale", 1.5, 1.319, 3.0),
        ("scale", 2.0, 1.759, 4.0),
        ("resample", 0.5, 0.540, 1.0),
        ("resample", 1.5, 0.987, 3.0),
        ("resample", 2.0, 0.999, 4.0),
    ],
)
def test_the_deviations_of_the_two_laws(z_mode: str, z_scale: float, expected: float, bound: float) -> None:
    exact = z_scale * deviation(2.0) if z_mode == "scale" else deviation(2.0 * z_scale)
    assert exact == pytest.approx(expected, abs=6e-4)
    latents = draw_latents(STREAMS, 128, z_scale=z_scale, z_mode=z_mode)
    assert latents.dtype == np.float32 and latents.shape == (400, 128)
    assert latents.std() == pytest.approx(exact, rel=0.01) and abs(latents.mean()) < 0.02
    assert np.abs(latents).max() <= bound
    assert np.abs(latents).max() > bound * (0.9 if exact < 1 or z_mode == "scale" else 0.8)


def test_both_laws_are_one_at_one() -> None:
    one = draw_latents(STREAMS, 16, z_scale=1.0, z_mode="scale")
    assert np.array_equal(one, draw_latents(STREAMS, 16, z_scale=1.0, z_mode="resample"))


def test_truncations_share_their_words() -> None:
    """The same seed at two truncations is the same image, more or less varied: a sweep compares like with like."""
    small = draw_latents(STREAMS, 16, z_scale=0.5, z_mode="scale")
    large = draw_latents(STREAMS, 16, z_scale=2.0, z_mode="scale")
    assert np.allclose(4 * small, large)
