"""The named fits build without storage, and their docstrings say what the cost model says."""

import inspect

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from caskit.gen.adversarial.costs import cost_lines, fit_cost
from caskit.gen.adversarial.losses import discriminator_loss, generator_loss
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.discriminator import Discriminator
from caskit.gen.biggan_deep.fit_config import FitConfig
from caskit.gen.biggan_deep.network import Generator
from caskit.gen.biggan_deep.presets import PRESETS

# Sides, channels, classes, whether a GPU's days are worth telling, millions of parameters of both networks.
SHAPES = {
    "fashion-mnist": (28, 1, 10, False, 0.590, 0.090),
    "digits": (8, 1, 10, False, 0.062, 0.033),
    "cifar-32": (32, 3, 10, True, 3.079, 0.652),
    "imagenet-128": (128, 3, 1000, True, 50.244, 34.590),
    "imagenet-256": (256, 3, 1000, True, 55.737, 38.247),
    "imagenet-512": (512, 3, 1000, True, 56.020, 38.301),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_docstring_says_what_the_cost_model_says(name: str) -> None:
    side, channels, num_classes, estimated, generator, discriminator = SHAPES[name]
    config = PRESETS[name]()
    assert config.preset == name
    assert config.network.image_size == side
    said = " ".join(inspect.getdoc(PRESETS[name]).split())  # type: ignore[union-attr]
    lines = cost_lines(config, channels=channels, num_classes=num_classes)
    for line in lines if estimated else lines[:2]:
        assert line in said
    assert f"caskit fit --gen biggan_deep:{name} " in said
    assert "Expected score:" in said
    cost = fit_cost(config, channels=channels, num_classes=num_classes)
    assert cost.generator_parameters / 1e6 == pytest.approx(generator, abs=1e-3)
    assert cost.discriminator_parameters / 1e6 == pytest.approx(discriminator, abs=1e-3)


def test_half_precision_checkpoints_of_the_small_fits_are_below_two_megabytes() -> None:
    for name in ("fashion-mnist", "digits"):
        config = PRESETS[name]()
        assert config.storage == "float16"
        assert 2 * fit_cost(config, channels=1, num_classes=10).generator_parameters < 2_000_000


def test_a_step_costs_what_is_counted() -> None:
    """But for the gradient of images that nobody needs, in the first convolution: a few percent at this size."""
    network = NetworkConfig(width=16, multipliers=(4, 2, 2), attention_after=1, latent_size=16, embedding_size=8)
    config = FitConfig(
        preset="x", network=network, discriminator_width=16, num_steps=1, batch_size=2, discriminator_steps=2
    )
    generator = Generator(network, num_classes=3, channels=1)
    discriminator = Discriminator(network, width=16, num_classes=3, channels=1)
    images, latents, labels = torch.randn(2, 1, 16, 16), torch.randn(2, 16), torch.tensor([0, 1])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for _ in range(config.discriminator_steps):
            with torch.no_grad():
                fake = generator(latents, labels)
            scores = discriminator(torch.cat((images, fake)), torch.cat((labels, labels)))
            discriminator_loss(*scores.chunk(2)).backward()  # type: ignore[no-untyped-call]
        discriminator.requires_grad_(False)
        generator_loss(discriminator(generator(latents, labels), labels)).backward()  # type: ignore[no-untyped-call]
    counted = counter.get_total_flops() / 2
    assert fit_cost(config, channels=1, num_classes=3).step == pytest.approx(counted, rel=0.05)
