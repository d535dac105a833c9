"""The optimizers of a prior."""

from typing import Any

import torch
from torch import nn

from caskit.gen.autoregressive.layers import CausalConv
from caskit.gen.autoregressive.pixelsnail import PixelSnail

BETAS = (0.9, 0.95)
MOMENTUM = 0.95  # of Muon (Jordan et al. 2024)


def build_optimizer(model: PixelSnail, name: str, learning_rate: float) -> torch.optim.Optimizer:
    """Return Adam, or timm's Muon with AdamW for what is not a matrix between features.

    Muon's updates are scaled to the size of Adam's (Liu et al. 2025, "Muon is scalable for LLM training", section
    2.2), so both read one learning rate. Vectors, embeddings and logits are not its kind of matrix.
    """
    if name == "adam":
        return torch.optim.Adam(model.parameters(), lr=learning_rate, betas=BETAS)
    assert name == "muon", f"{name} is not an optimizer of priors"
    from timm.optim.muon import Muon  # on use: a sampling cluster needs no timm

    convs = (module for module in model.modules() if isinstance(module, (nn.Conv2d, CausalConv)))
    matrices = [conv.weight for conv in convs if conv is not model.logits]
    known = {id(weight) for weight in matrices}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": rest, "use_fallback": True}]
    return Muon(groups, lr=learning_rate, momentum=MOMENTUM, nesterov=True, betas=BETAS)
