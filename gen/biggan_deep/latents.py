"""z: the only random numbers of a sample."""

import numpy as np

from caskit.gen.streams import Streams

DRAW = "biggan_deep/latent"  # name of the draw, one word per dimension
PUBLISHED_BOUND = 2.0  # where the published code truncates, in standard deviations


def draw_latents(streams: Streams, size: int, *, z_scale: float, z_mode: str, draw: str = DRAW) -> np.ndarray:
    """Draw z of every stream, [N, size] float32.

    `scale` is the published code's law (huggingface/pytorch-pretrained-BigGAN, `truncated_noise_sample`): `z_scale`
    times a normal truncated to -2..2. `resample` is that of the paper's footnote (Ravuri and Vinyals 2019): a normal
    whose values outside `-2 z_scale .. 2 z_scale` are drawn again. Either is one quantile per word: no number depends
    on how often another one was rejected.

    Args:
        streams: N of them.
        size: dimensions.
        z_scale: see Settings.
        z_mode: see Settings.
        draw: the name under which the streams are read.
    """
    if z_mode == "scale":
        latents = z_scale * streams.truncated_normal(draw, (size,), PUBLISHED_BOUND)
    else:
        latents = streams.truncated_normal(draw, (size,), PUBLISHED_BOUND * z_scale)
    return latents.astype(np.float32)
