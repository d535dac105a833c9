"""Parameters and multiply-adds of the three networks, from a config and the size of the images.

The networks are built without storage (torch's meta device). Multiply-adds are those of convolutions, matrix products
and attention as they are computed: a training step multiplies the masked taps of a causal convolution too, and whole
attention matrices; the cached sampler does neither.
"""

import dataclasses

import torch
from torch import nn

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.layers import CausalConv, GatedLayer
from caskit.gen.autoregressive.pixelsnail import Block, PixelSnail
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.vqvae2.config import BOTTOM, TOP, FitConfig
from caskit.gen.vqvae2.network import Autoencoder, Residual
from caskit.gen.vqvae2.weights import build_prior

IMAGENET_IMAGES = 1_281_167
GPU_FLOPS = 312e12  # A100 80GB SXM, dense bfloat16 on tensor cores, the vendor's peak (TF32 has half of it)
FIT_UTILISATION = 0.4  # assumed share of that peak while fitting in bfloat16
SAMPLE_UTILISATION = 0.15  # assumed while sampling in TF32: 30 % of half the peak


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """Of one network.

    Attributes:
        parameters: trained numbers, a codebook's vectors among them.
        forward: multiply-adds of a forward pass over one image.
        step: multiply-adds per image of a training step, forward and backward.
        sampling: multiply-adds per sampled image; of the autoencoder, its decoder's.
    """

    parameters: int
    forward: int
    step: int
    sampling: int


def network_costs(
    config: FitConfig, *, height: int, width: int, channels: int, num_classes: int
) -> dict[str, NetworkCost]:
    """Return the costs of `autoencoder`, `top` and `bottom`.

    Args:
        config: a fit.
        height: of the images, a multiple of `config.stride`, like the width.
        width: of the images.
        channels: of the images.
        num_classes: of the set.
    """
    with torch.device("meta"):
        autoencoder = Autoencoder(channels, config)
        shape = (height // config.stride, width // config.stride)
        priors = {
            level: build_prior(config, level, top_shape=shape, num_classes=num_classes) for level in (TOP, BOTTOM)
        }
    costs = {"autoencoder": _autoencoder_cost(autoencoder, height * width, config)}
    for level, prior in priors.items():
        above = shape[0] * shape[1] if prior.condition is not None else 0
        costs[level] = _prior_cost(prior, above, recomputed=config.checkpointing)
    return costs


def fit_flops(config: FitConfig, costs: dict[str, NetworkCost]) -> float:
    """Return the floating point operations of a whole fit, two per multiply-add, without encoding the set."""
    stages: dict[str, StageConfig] = {name: getattr(config, name) for name in costs}
    return sum(2.0 * costs[name].step * stage.batch_size * stage.num_steps for name, stage in stages.items())


def gpu_days(flops: float, utilisation: float) -> float:
    """Return the days of one A100 80GB for so many operations at an assumed share of its bfloat16 peak."""
    return flops / (GPU_FLOPS * utilisation) / 86400


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _stack(module: nn.Module, positions: int) -> tuple[int, int]:
    """Return multiply-adds of a stack of convolutions over so many positions, and the positions it gives."""
    if isinstance(module, nn.Sequential):
        total = 0
        for part in module:
            macs, positions = _stack(part, positions)
            total += macs
        return total, positions
    if isinstance(module, Residual):
        return (module.conv_0.weight.numel() + module.conv_1.weight.numel()) * positions, positions
    if isinstance(module, nn.ConvTranspose2d):
        return module.weight.numel() * positions, positions * module.stride[0] * module.stride[1]
    if isinstance(module, nn.Conv2d):
        positions //= module.stride[0] * module.stride[1]
        return module.weight.numel() * positions, positions
    assert isinstance(module, nn.ReLU), f"no rule for {type(module).__name__}"
    return 0, positions


def _autoencoder_cost(model: Autoencoder, pixels: int, config: FitConfig) -> NetworkCost:
    bottom = pixels // config.bottom_stride**2
    top = bottom // 4
    parts = {
        "encode_bottom": pixels,
        "encode_top": bottom,
        "project_top": top,
        "decode_top": top,
        "project_bottom": bottom,
        "upsample_top": top,
        "decode_image": bottom,
    }
    macs = {name: _stack(getattr(model, name), positions)[0] for name, positions in parts.items()}
    codes = config.level_codes
    lookup = (codes[TOP] * top + codes[BOTTOM] * bottom) * config.code_size  # distances, without gradients
    forward = sum(macs.values()) + lookup
    first = model.encode_bottom[0]
    assert isinstance(first, nn.Conv2d)
    step = forward + 2 * sum(macs.values()) - _stack(first, pixels)[0]  # nothing goes back to the image
    return NetworkCost(
        parameters=_parameters(model) + model.top.weight.numel() + model.bottom.weight.numel(),
        forward=forward,
        step=step,
        sampling=macs["upsample_top"] + macs["decode_image"],
    )


def _weights(module: nn.Module) -> int:
    """Return how many weights of convolutions a module holds: its multiply-adds per position, masked taps included."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, (nn.Conv2d, CausalConv)))


def _cached(module: nn.Module, height: int, width: int) -> int:
    """Return multiply-adds of the convolutions of a causal module in the cached sampler, over a whole map."""
    total = 0
    for part in module.modules():
        if isinstance(part, CausalConv):
            outputs, inputs = part.weight.shape[:2]
            reach = part.columns // 2
            below = part.rows_above * part.columns * width * (height - 1)  # the last row has none below
            outside = sum(max(reach - column, 0) for column in range(width))  # left of the map, which is not multiplied
            own = ((reach + int(part.see_centre)) * width - outside) * height
            total += outputs * inputs * (below + own)
        elif isinstance(part, nn.Conv2d):
            total += part.weight.numel() * height * width
    return total


def _prior_cost(prior: PixelSnail, above: int, *, recomputed: bool) -> NetworkCost:
    """Return the cost of a prior; `above` counts the positions of the map above, 0 without one."""
    config, positions = prior.config, prior.height * prior.width
    # The convolutions of conditions stand in blocks, but run over the smaller map above, before it is enlarged.
    conditions = sum(_weights(condition) for condition in _conditions(prior))
    blocks = _weights(prior.blocks) - conditions
    attention = _attention(config, positions * positions)
    body = blocks * positions + conditions * above + attention
    first = prior.first.weight.numel() * positions
    ends = (_weights(prior.out_layers) + _weights(prior.logits)) * positions
    stack = 0 if prior.condition is None else _weights(prior.condition) * above
    forward = first + body + ends + stack
    step = 3 * forward
    if recomputed:  # of a block without attention all but its last convolution, whose output nothing needs
        step += body - sum(_weights(block.out) for block in _blocks(prior) if block.out is not None) * positions
    if not config.embedding:  # one-hot vectors are not learned, so nothing goes back to them
        step -= first + (0 if prior.condition is None else prior.condition.first.weight.numel() * above)
    cached = sum(_cached(module, prior.height, prior.width) for module in (prior.first, prior.out_layers, prior.logits))
    cached += _cached(prior.blocks, prior.height, prior.width) - conditions * positions
    seen = positions * (positions + 1) // 2 if config.see_centre else positions * (positions - 1) // 2
    return NetworkCost(
        parameters=_parameters(prior),
        forward=forward,
        step=step,
        sampling=cached + conditions * above + stack + _attention(config, seen),
    )


def _blocks(prior: PixelSnail) -> list[Block]:
    return [block for block in prior.blocks if isinstance(block, Block)]


def _conditions(prior: PixelSnail) -> list[nn.Module]:
    """Return the convolutions that bring the map above into the gated layers."""
    layers = (layer for layer in prior.modules() if isinstance(layer, GatedLayer))
    return [layer.condition for layer in layers if layer.condition is not None]


def _attention(config: PriorConfig, pairs: int) -> int:
    """Return multiply-adds of all attentions over so many pairs of positions: scores and weighted sums."""
    return 2 * pairs * config.heads * config.head_size * config.blocks


def cost_lines(config: FitConfig, *, height: int, width: int, channels: int, num_classes: int) -> list[str]:
    """Return what a preset's docstring says about its cost, with the arithmetic of the two estimates."""
    costs = network_costs(config, height=height, width=width, channels=channels, num_classes=num_classes)
    names = ("autoencoder", TOP, BOTTOM)
    stages = [getattr(config, name) for name in names]
    steps = [2 * costs[name].step for name in names]
    sample = 2 * sum(cost.sampling for cost in costs.values())
    fitting, sampling = fit_flops(config, costs), float(sample * IMAGENET_IMAGES)
    terms = " + ".join(
        f"{stage.num_steps:,} x {stage.batch_size} x {flops:.2e}" for stage, flops in zip(stages, steps, strict=True)
    )
    return [
        "Parameters: " + ", ".join(f"{name} {costs[name].parameters / 1e6:.2f} M" for name in names) + ".",
        "FLOPs per image: a training step "
        + ", ".join(f"{flops:.2e}" for flops in steps)
        + f"; a sample {sample:.2e}.",
        f"Fit: {terms} = {fitting:.2e} FLOP, {_duration(fitting, FIT_UTILISATION)} of one A100 80GB at "
        f"{FIT_UTILISATION * 100:.0f} % of 312 TFLOP/s (bfloat16). Estimate, arithmetic alone.",
        f"{IMAGENET_IMAGES:,} samples: {sampling:.2e} FLOP, {_duration(sampling, SAMPLE_UTILISATION)} of one A100 80GB "
        f"at {SAMPLE_UTILISATION * 100:.0f} % of 312 TFLOP/s (TF32 at 30 % of its 156). Estimate, arithmetic alone.",
    ]


def _duration(flops: float, utilisation: float) -> str:
    days = gpu_days(flops, utilisation)
    for number, unit in ((days, "days"), (days * 24, "hours")):
        if number >= 1:
            return f"{number:,.1f} {unit}"
    return f"{days * 1440:.1f} minutes"
