"""Parameters and floating point operations of a fit and of a sample, from a config and the size of the images.

Operations of a forward pass are counted by torch on its meta device, two per multiply-add of convolutions and matrix
products; norms, activations and spectral norms are left out. A backward pass counts twice its forward pass, or once
where only the gradient of the images is wanted.
"""

import dataclasses

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from caskit.gen.adversarial.config import GanConfig

GPU_FLOPS = 312e12  # A100 80GB SXM, dense bfloat16 on tensor cores, the vendor's peak (TF32 has half of it)
FIT_UTILISATION = 0.3  # assumed share of that peak while fitting in bfloat16; norms and small maps take the rest
SAMPLE_UTILISATION = 0.15  # assumed while sampling in TF32: 30 % of half the peak
IMAGENET_IMAGES = 1_281_167


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitCost:
    """Of a fit.

    Attributes:
        generator_parameters, discriminator_parameters: trained numbers.
        generator, discriminator: operations of a forward pass for one image.
        step: operations of a whole step over its batch size.
    """

    generator_parameters: int
    discriminator_parameters: int
    generator: int
    discriminator: int
    step: int


def fit_cost(config: GanConfig, *, channels: int, num_classes: int) -> FitCost:
    """Return the cost of a fit; nothing is allocated."""
    with torch.device("meta"):
        generator, discriminator = config.build(num_classes=num_classes, channels=channels)
        latents, labels = torch.empty(1, generator.latent_size), torch.empty(1, dtype=torch.long)
        images = torch.empty(1, channels, config.image_size, config.image_size)
    drawing, scoring = _flops(generator, latents, labels), _flops(discriminator, images, labels)
    # An update of the discriminator draws an image, and scores it and a real one with gradients of all weights; one of
    # the generator draws with gradients and scores with those of the image.
    step = config.discriminator_steps * (drawing + 2 * 3 * scoring) + 3 * drawing + 2 * scoring
    return FitCost(
        generator_parameters=_parameters(generator),
        discriminator_parameters=_parameters(discriminator),
        generator=drawing,
        discriminator=scoring,
        step=step,
    )


def _flops(module: nn.Module, *inputs: torch.Tensor) -> int:
    # Only the plain backend's products are counted on every device; the fused ones do the same arithmetic.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops())


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def cost_lines(config: GanConfig, *, channels: int, num_classes: int) -> list[str]:
    """Return what a preset's docstring says about its cost, with the arithmetic of the two estimates."""
    cost = fit_cost(config, channels=channels, num_classes=num_classes)
    fitting = float(cost.step) * config.batch_size * config.num_steps
    sampling = float(cost.generator) * IMAGENET_IMAGES
    return [
        f"Parameters: generator {cost.generator_parameters / 1e6:.2f} M, discriminator "
        f"{cost.discriminator_parameters / 1e6:.2f} M.",
        f"FLOPs per image: a training step {cost.step:.2e}; a sample {cost.generator:.2e}.",
        f"Fit: {config.num_steps:,} x {config.batch_size} x {cost.step:.2e} = {fitting:.2e} FLOP, "
        f"{_duration(fitting, FIT_UTILISATION)} of one A100 80GB at {FIT_UTILISATION * 100:.0f} % of 312 TFLOP/s "
        "(bfloat16). Estimate, arithmetic alone.",
        f"{IMAGENET_IMAGES:,} samples: {sampling:.2e} FLOP, {_duration(sampling, SAMPLE_UTILISATION)} of one A100 80GB "
        f"at {SAMPLE_UTILISATION * 100:.0f} % of 312 TFLOP/s (TF32 at 30 % of its 156). Estimate, arithmetic alone.",
    ]


def _duration(flops: float, utilisation: float) -> str:
    days = flops / (GPU_FLOPS * utilisation) / 86400
    for number, unit in ((days, "days"), (days * 24, "hours")):
        if number >= 1:
            return f"{number:,.1f} {unit}"
    return f"{days * 1440:.1f} minutes"
