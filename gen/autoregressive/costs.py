"""Parameters and multiply-adds of networks, and what a GPU would take for them.

Networks are built without storage for it (torch's meta device). Multiply-adds are those of convolutions, matrix
products and attention as they are computed: a training step multiplies the masked taps of a causal convolution too, and
whole attention matrices; the cached sampler does neither.
"""

import dataclasses
from collections.abc import Mapping

from torch import nn

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.layers import CausalConv, GatedLayer
from caskit.gen.autoregressive.pixelsnail import Block, PixelSnail
from caskit.gen.autoregressive.residual import Residual
from caskit.gen.autoregressive.stage import StageConfig

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
        sampling: multiply-adds per sampled image; of an autoencoder, its decoder's.
    """

    parameters: int
    forward: int
    step: int
    sampling: int


def fit_flops(costs: Mapping[str, NetworkCost], stages: Mapping[str, StageConfig]) -> float:
    """Return the floating point operations of a whole fit, two per multiply-add, without encoding the set."""
    return sum(2.0 * costs[name].step * stage.batch_size * stage.num_steps for name, stage in stages.items())


def gpu_days(flops: float, utilisation: float) -> float:
    """Return the days of one A100 80GB for so many operations at an assumed share of its bfloat16 peak."""
    return flops / (GPU_FLOPS * utilisation) / 86400


def num_parameters(module: nn.Module) -> int:
    """Return how many numbers of a module are trained by gradients."""
    return sum(parameter.numel() for parameter in module.parameters())


def stack_cost(module: nn.Module, positions: int) -> tuple[int, int]:
    """Return multiply-adds of a stack of convolutions over so many positions, and the positions it gives."""
    if isinstance(module, nn.Sequential):
        total = 0
        for part in module:
            macs, positions = stack_cost(part, positions)
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


def prior_cost(prior: PixelSnail, above: int, *, recomputed: bool) -> NetworkCost:
    """Return the cost of a prior; `above` counts the positions of the map above, 0 without one."""
    config, positions = prior.config, prior.height * prior.width
    # The convolutions of conditions stand in blocks, but run over the smaller map above, before it is enlarged.
    conditions = sum(_weights(condition) for condition in _conditions(prior))
    blocks = _weights(prior.blocks) - conditions
    stack, enlarged = _condition_stack(prior, above)
    attention = _attention(config, positions * positions)
    body = blocks * positions + conditions * enlarged + attention
    first = prior.first.weight.numel() * positions
    ends = (_weights(prior.out_layers) + _weights(prior.logits)) * positions
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
        parameters=num_parameters(prior),
        forward=forward,
        step=step,
        sampling=cached + conditions * enlarged + stack + _attention(config, seen),
    )


def _condition_stack(prior: PixelSnail, above: int) -> tuple[int, int]:
    """Return multiply-adds of the stack over the map above, and the positions that it gives."""
    if prior.condition is None:
        return 0, 0
    upsampled = sum(module.weight.numel() * above * 4**i for i, module in enumerate(_doublings(prior)))
    return _weights(prior.condition) * above + upsampled, above * 4 ** len(prior.condition.upsample)


def _doublings(prior: PixelSnail) -> list[nn.ConvTranspose2d]:
    assert prior.condition is not None
    return [module for module in prior.condition.upsample if isinstance(module, nn.ConvTranspose2d)]


def _blocks(prior: PixelSnail) -> list[Block]:
    return [block for block in prior.blocks if isinstance(block, Block)]


def _conditions(prior: PixelSnail) -> list[nn.Module]:
    """Return the convolutions that bring the map above into the gated layers."""
    layers = (layer for layer in prior.modules() if isinstance(layer, GatedLayer))
    return [layer.condition for layer in layers if layer.condition is not None]


def _attention(config: PriorConfig, pairs: int) -> int:
    """Return multiply-adds of all attentions over so many pairs of positions: scores and weighted sums."""
    return 2 * pairs * config.heads * config.head_size * config.blocks


def cost_lines(costs: Mapping[str, NetworkCost], stages: Mapping[str, StageConfig]) -> list[str]:
    """Return what a preset's docstring says about its cost, with the arithmetic of the two estimates.

    Args:
        costs: of each network, by name.
        stages: how each is trained, by the same names in the same order.
    """
    steps = {name: 2 * cost.step for name, cost in costs.items()}
    sample = 2 * sum(cost.sampling for cost in costs.values())
    fitting, sampling = fit_flops(costs, stages), float(sample * IMAGENET_IMAGES)
    terms = " + ".join(
        f"{stage.num_steps:,} x {stage.batch_size} x {steps[name]:.2e}" for name, stage in stages.items()
    )
    return [
        "Parameters: " + ", ".join(f"{name} {cost.parameters / 1e6:.2f} M" for name, cost in costs.items()) + ".",
        "FLOPs per image: a training step "
        + ", ".join(f"{flops:.2e}" for flops in steps.values())
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
