"""The recipe's optimizer: which parameters are decayed, and whose code computes it."""

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import nn

from caskit.train.lars import Lars
from caskit.train.recipes import Recipe

# torch's own SGD, over all tensors of a kind at once: the same operations and bits, without Python's time for each
# tensor. On GPUs it is torch's choice anyway.
_AT_ONCE = ("nesterov", "momentum")


def split_parameters(model: nn.Module, decayed: str) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters that weight decay is for, and the others, each in the model's order.

    Args:
        model: any; a parameter of a module whose class has "norm" in its name is one of a norm.
        decayed: of `Recipe`: `weights` leaves out norms and whatever has one dimension, `all-but-norms` norms.
    """
    norms = {
        id(parameter)
        for module in model.modules()
        if "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
    }
    chosen: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        is_norm, is_bias = id(parameter) in norms, parameter.ndim <= 1
        kept = decayed == "all" or not (is_norm or (decayed == "weights" and is_bias))
        (chosen if kept else others).append(parameter)
    return chosen, others


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of that name: timm's, or LARS, which gives what is not decayed no trust ratio either."""
    foreach = True if recipe.optimizer in _AT_ONCE else None
    if recipe.decayed == "weights" and recipe.optimizer != "lars":
        return create_optimizer_v2(
            model,
            opt=recipe.optimizer,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            foreach=foreach,
        )
    chosen, others = split_parameters(model, recipe.decayed)
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((chosen, recipe.weight_decay), (others, 0.0))
        if parameters
    ]
    if recipe.optimizer == "lars":
        marked = [{**group, "adapt": group["params"] is chosen} for group in groups]
        return Lars(marked, lr=recipe.learning_rate, momentum=recipe.momentum)
    return create_optimizer_v2(
        groups, opt=recipe.optimizer, lr=recipe.learning_rate, momentum=recipe.momentum, foreach=foreach
    )
