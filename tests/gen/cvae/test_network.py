"""Shapes, the ways the label takes, and the folded decoder."""

import copy

import pytest
import torch

from caskit.gen.cvae.network import Decoder, Encoder
from caskit.gen.cvae.sampler import fold_norms


def small_decoder(height: int = 8, width: int = 12, channels: int = 3) -> Decoder:
    return Decoder(
        height=height,
        width=width,
        channels=channels,
        num_classes=5,
        latent_size=6,
        label_size=4,
        widths=(4, 8, 6, 4),
    )


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (28, 28, 1), (12, 8, 3), (4, 4, 1)])
def test_shapes(height: int, width: int, channels: int) -> None:
    encoder = Encoder(height=height, width=width, channels=channels, num_classes=5, latent_size=6, width_base=4)
    labels = torch.tensor([0, 4, 2])
    mean, log_variance = encoder(torch.rand(3, channels, height, width), labels)
    assert mean.shape == log_variance.shape == (3, 6)
    images, log_deviations = small_decoder(height, width, channels)(mean, labels)
    assert images.shape == log_deviations.shape == (3, channels, height, width)
    assert images.min() >= 0
    assert images.max() <= 1


def test_the_label_reaches_the_image_and_the_code() -> None:
    torch.manual_seed(0)
    decoder = small_decoder().eval()
    torch.nn.init.normal_(decoder.class_bias.weight)
    latents = torch.randn(1, 6).expand(2, 6)
    first, second = decoder(latents, torch.tensor([0, 1]))[0]
    assert (first - second).abs().max() > 1e-3
    encoder = Encoder(height=8, width=8, channels=1, num_classes=5, latent_size=6, width_base=4).eval()
    torch.nn.init.normal_(encoder.class_map.weight)
    mean, _ = encoder(torch.rand(1, 1, 8, 8).expand(2, 1, 8, 8), torch.tensor([0, 1]))
    assert (mean[0] - mean[1]).abs().max() > 1e-3


def test_folding_keeps_the_map() -> None:
    torch.manual_seed(0)
    decoder = small_decoder()
    labels = torch.randint(5, (32,))
    for _ in range(5):
        decoder(torch.randn(32, 6) * 2, labels)  # batch statistics that are not the initial zeros and ones
    decoder.eval()
    latents = torch.randn(32, 6)
    with torch.no_grad():
        torch.testing.assert_close(fold_norms(copy.deepcopy(decoder))(latents, labels), decoder(latents, labels))
