"""Layers of both networks, against what they stand for."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from caskit.gen.adversarial.standing import norms
from caskit.gen.cgan.config import NetworkConfig, Settings
from caskit.gen.cgan.discriminator import Block, Discriminator
from caskit.gen.cgan.fit_config import FitConfig
from caskit.gen.cgan.generator import Generator
from caskit.gen.cgan.layers import DOUBLE, HALVE, CategoricalNorm, Convolution, draw_weights
from caskit.manifests.errors import InputError

PUBLISHED = NetworkConfig(channels=(256, 256, 256, 256), discriminator_channels=(128, 128, 128, 128))


@pytest.mark.parametrize("resizing", [DOUBLE, HALVE])
def test_a_resizing_convolution_is_a_convolution_and_a_resizing(resizing: str) -> None:
    torch.manual_seed(0)
    layer, maps = Convolution(3, 5, resizing).double(), torch.randn(2, 3, 6, 4, dtype=torch.float64)
    maps.requires_grad_()
    if resizing == DOUBLE:
        repeated = maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        expected = functional.conv2d(repeated, layer.weight, layer.bias, padding=1)
    else:
        expected = functional.avg_pool2d(functional.conv2d(maps, layer.weight, layer.bias, padding=1), 2)
    torch.testing.assert_close(layer(maps), expected)
    weights = torch.randn_like(expected)
    inputs = (maps, layer.weight, layer.bias)
    ours = torch.autograd.grad((layer(maps) * weights).sum(), inputs)
    for gradient, theirs in zip(ours, torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(gradient, theirs)


def test_a_block_of_the_generator_is_the_published_one() -> None:
    """Norm, ReLU, doubling, 3x3, norm, ReLU, 3x3; beside it doubling and 1x1."""
    torch.manual_seed(0)
    network = NetworkConfig(channels=(4, 6), discriminator_channels=(4,), halvings=1)
    block = Generator(network, num_classes=3, channels=1).blocks[0]
    for norm in block.norms:
        nn.init.normal_(norm.gains.weight)
        nn.init.normal_(norm.offsets.weight)
    maps, labels = torch.randn(5, 4, 4, 4), torch.tensor([0, 2, 1, 1, 0])

    def normalised(values: torch.Tensor, norm: CategoricalNorm) -> torch.Tensor:
        plain = functional.batch_norm(values, None, None, training=True, eps=network.norm_epsilon)
        return plain * norm.gains.weight[labels][..., None, None] + norm.offsets.weight[labels][..., None, None]

    def twice(values: torch.Tensor) -> torch.Tensor:
        return values.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    first, second = block.convolutions
    hidden = functional.conv2d(twice(normalised(maps, block.norms[0]).relu()), first.weight, first.bias, padding=1)
    hidden = functional.conv2d(normalised(hidden, block.norms[1]).relu(), second.weight, second.bias, padding=1)
    expected = hidden + functional.conv2d(twice(maps), block.skip.weight, block.skip.bias)
    torch.testing.assert_close(block(maps, labels), expected, rtol=1e-4, atol=1e-5)


def test_a_block_of_the_discriminator_is_the_published_one() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 4, 6, 6)
    block = Block(4, 8, halves=True, first=False)
    first, second = block.convolutions
    hidden = functional.conv2d(maps.relu(), first.weight, first.bias, padding=1)
    hidden = functional.avg_pool2d(functional.conv2d(hidden.relu(), second.weight, second.bias, padding=1), 2)
    skip = functional.avg_pool2d(functional.conv2d(maps, block.skip.weight, block.skip.bias), 2)
    torch.testing.assert_close(block(maps), hidden + skip, rtol=1e-4, atol=1e-5)
    plain = Block(4, 4, halves=False, first=False)
    nn.init.zeros_(plain.convolutions[1].weight)
    nn.init.zeros_(plain.convolutions[1].bias)
    assert plain.skip is None and torch.equal(plain(maps), maps)


def test_the_class_reaches_the_generator_by_its_norms_and_the_discriminator_by_its_projection() -> None:
    torch.manual_seed(0)
    network = NetworkConfig(channels=(8, 8, 4), discriminator_channels=(4, 8), start_size=2, latent_size=5)
    generator = Generator(network, num_classes=3, channels=3)
    latents, zeros, twos = torch.randn(4, 5), torch.zeros(4, dtype=torch.long), torch.full((4,), 2)
    images = generator(latents, zeros)
    assert images.shape == (4, 3, 8, 8) and images.abs().max() < 1
    assert torch.equal(generator(latents, twos), images), "all classes begin alike"
    nn.init.normal_(generator.blocks[0].norms[0].gains.weight)
    assert not torch.equal(generator(latents, twos), generator(latents, zeros))

    discriminator = Discriminator(network, num_classes=3, channels=3)
    seen: list[torch.Tensor] = []
    discriminator.score.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    difference = discriminator(images, twos) - discriminator(images, zeros)
    change = discriminator.embedding.weight[2] - discriminator.embedding.weight[0]
    torch.testing.assert_close(difference, seen[0] @ change, rtol=1e-4, atol=1e-5)


def test_the_published_layers_have_the_published_number_of_weights() -> None:
    """Counted by hand from the layers of pfnet-research/sngan_projection for 32x32 and ten classes."""
    with torch.device("meta"):
        generator = Generator(PUBLISHED, num_classes=10, channels=3)
        discriminator = Discriminator(PUBLISHED, num_classes=10, channels=3)
    square, wide, point = 9 * 256 * 256 + 256, 9 * 128 * 128 + 128, 128 * 128 + 128
    block = 2 * square + (256 * 256 + 256) + 2 * 2 * 10 * 256
    first = 128 * 4096 + 4096
    assert sum(p.numel() for p in generator.parameters()) == first + 3 * block + 2 * 256 + (9 * 256 * 3 + 3)
    optimized = (9 * 3 * 128 + 128) + wide + (3 * 128 + 128)
    assert sum(p.numel() for p in discriminator.parameters()) == optimized + (2 * wide + point) + 4 * wide + 11 * 128
    assert generator.config.image_size == 32
    assert [block.halves for block in discriminator.blocks] == [True, True, False, False]


def test_weights_are_glorot_uniform_and_the_discriminator_alone_has_spectral_norms(config: FitConfig) -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(Convolution(40, 60), nn.Conv2d(40, 60, 1), nn.Linear(40, 60))
    draw_weights(layer)
    for part, gain, taps in zip(layer, (2**0.5, 1.0, 1.0), (9, 1, 1), strict=True):
        bound = gain * (6 / ((40 + 60) * taps)) ** 0.5
        assert 0.98 * bound < part.weight.abs().max() <= bound
        assert not part.bias.any()
    generator, discriminator = config.build(num_classes=3, channels=1)
    config.prepare(generator, discriminator)
    assert not any(parametrize.is_parametrized(part) for part in generator.modules())
    layers = [part for part in discriminator.modules() if isinstance(part, nn.Conv2d | nn.Linear | nn.Embedding)]
    assert all(parametrize.is_parametrized(part, "weight") for part in layers) and len(layers) == 11
    for part in layers:
        assert float(torch.linalg.svdvals(part.weight.detach().flatten(1))[0]) == pytest.approx(1, abs=0.05)
    assert all(bool((norm.variances == 1).all()) for norm in norms(generator).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": (8,)}, r"channels are 1, allowed: 2\.\.10"),
        ({"channels": (8, 0)}, r"channels is 0, allowed: whole numbers 1\.\.8192"),
        ({"discriminator_channels": ()}, r"discriminator_channels are 0, allowed: 1\.\.16"),
        ({"halvings": 3}, r"halvings is 3, allowed: whole numbers 1\.\.2"),
        ({"halvings": 0}, r"halvings is 0"),
        ({"start_size": 0}, r"start_size is 0"),
        ({"latent_size": 2.5}, r"latent_size is 2\.5"),
        ({"norm_epsilon": float("nan")}, r"norm_epsilon is nan"),
    ],
)
def test_layers_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NetworkConfig(**{"channels": (8, 8, 4), "discriminator_channels": (4, 8), **change})


def test_settings_and_betas_that_cannot_be_are_refused(config: FitConfig) -> None:
    with pytest.raises(InputError, match="z_scale is 0"):
        Settings(z_scale=0)
    with pytest.raises(InputError, match=r"second_beta is 1, allowed: numbers 0\.0\.\.0\.999999"):
        FitConfig(preset="x", network=config.network, num_steps=1, batch_size=2, second_beta=1)
    assert FitConfig(preset="x", network=config.network, num_steps=1, batch_size=2).betas == (0.0, 0.9)
