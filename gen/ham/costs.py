"""Parameters and multiply-adds of all networks of a hierarchy, from a config and the size of the images."""

import torch
from torch import nn

from caskit.gen.autoregressive.costs import NetworkCost, num_parameters, prior_cost, stack_cost
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.ham.config import FitConfig
from caskit.gen.ham.network import FeedForward, LevelNetwork, MaskedPrediction
from caskit.gen.ham.weights import build_networks


def network_costs(
    config: FitConfig, *, height: int, width: int, channels: int, num_classes: int
) -> dict[str, NetworkCost]:
    """Return the costs of `level1`, `decoder1`, `level2`, ..., `prior`, in the order of the stages of a fit.

    Args:
        config: a fit.
        height: of the images, a multiple of `config.stride`, like the width.
        width: of the images.
        channels: of the images.
        num_classes: of the set.
    """
    with torch.device("meta"):
        networks = build_networks(config, shape=(height, width, channels), num_classes=num_classes)
    costs, positions = {}, height * width
    for number, (level, decoder) in enumerate(zip(networks.levels, networks.decoders, strict=True), 1):
        costs[f"level{number}"] = _level_cost(level, positions)
        positions //= level.config.stride**2
        costs[f"decoder{number}"] = prior_cost(decoder, positions, recomputed=config.checkpointing)
    costs["prior"] = prior_cost(networks.prior, 0, recomputed=config.checkpointing)
    return costs


def stages_of(config: FitConfig) -> dict[str, StageConfig]:
    """Return how each network is trained, by the names of `network_costs`."""
    stages: dict[str, StageConfig] = {}
    for number, level in enumerate(config.levels, 1):
        stages |= {f"level{number}": level.abstraction, f"decoder{number}": level.decoding}
    return {**stages, "prior": config.prior}


def _level_cost(level: LevelNetwork, positions: int) -> NetworkCost:
    """Return the cost of an autoencoder over so many pixels or codes; nothing of it is used for sampling."""
    encoder, places = stack_cost(level.encoder, positions)
    project, _ = stack_cost(level.project, places)
    lookup = level.codebook.weight.numel() * places  # distances, without gradients
    first = level.encoder[0]
    assert isinstance(first, nn.Conv2d)
    # Nothing goes back to an image; to vectors of codes, which are learned, it does.
    unlearned = stack_cost(first, positions)[0] if level.embedding is None else 0
    if isinstance(level.auxiliary, FeedForward):
        learned = encoder + project + stack_cost(level.auxiliary.layers, places)[0]
    else:
        assert isinstance(level.auxiliary, MaskedPrediction)
        # The masked input is encoded too, and the covariance of the features is a product.
        covariance = level.config.channels**2 * places
        learned = 2 * encoder + project + stack_cost(level.auxiliary.layers, places)[0] + covariance
        unlearned *= 2
    return NetworkCost(
        parameters=num_parameters(level) + level.codebook.weight.numel(),
        forward=learned + lookup,
        step=3 * learned + lookup - unlearned,
        sampling=0,
    )
