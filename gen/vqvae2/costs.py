"""Parameters and multiply-adds of the three networks, from a config and the size of the images."""

import torch
from torch import nn

from caskit.gen.autoregressive.costs import NetworkCost, num_parameters, prior_cost, stack_cost
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.vqvae2.config import BOTTOM, TOP, FitConfig
from caskit.gen.vqvae2.network import Autoencoder
from caskit.gen.vqvae2.weights import build_prior


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
        costs[level] = prior_cost(prior, above, recomputed=config.checkpointing)
    return costs


def stages_of(config: FitConfig) -> dict[str, StageConfig]:
    """Return how each of the three is trained, by the names of `network_costs`."""
    return {"autoencoder": config.autoencoder, TOP: config.top, BOTTOM: config.bottom}


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
    macs = {name: stack_cost(getattr(model, name), positions)[0] for name, positions in parts.items()}
    codes = config.level_codes
    lookup = (codes[TOP] * top + codes[BOTTOM] * bottom) * config.code_size  # distances, without gradients
    forward = sum(macs.values()) + lookup
    first = model.encode_bottom[0]
    assert isinstance(first, nn.Conv2d)
    step = forward + 2 * sum(macs.values()) - stack_cost(first, pixels)[0]  # nothing goes back to the image
    return NetworkCost(
        parameters=num_parameters(model) + model.top.weight.numel() + model.bottom.weight.numel(),
        forward=forward,
        step=step,
        sampling=macs["upsample_top"] + macs["decode_image"],
    )
