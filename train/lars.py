"""LARS (You, Gitman, Ginsburg 2017, arXiv 1708.03888) as TensorFlow's tf.contrib.opt.LARSOptimizer computes it.

timm's takes the trust ratio of a step into the momentum, where it stays; here, as in the code of the paper's TPU
recipe, the ratio of the present step scales the whole momentum.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lars(torch.optim.Optimizer):
    """`m <- momentum m + g + decay w; w <- w - rate trust m`, `trust = coefficient |w| / (|g| + decay |w|)`.

    Where either norm is zero, and in groups with `adapt` False, trust is 1. Norms are of a whole tensor.

    Args:
        groups: parameters, each group with its `weight_decay` and `adapt`.
        lr, momentum: of all groups.
        coefficient: the paper's eta.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float, coefficient: float = 0.001
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "coefficient": coefficient})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Do one update by the gradients that are there."""
        assert closure is None, "gradients are computed before"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        decay, state = group["weight_decay"], self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        momentum = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient).add_(weight, alpha=decay)
        rate = torch.full((), group["lr"], dtype=weight.dtype, device=weight.device)
        if group["adapt"]:
            size, slope = weight.norm(), gradient.norm()
            trust = group["coefficient"] * size / (slope + decay * size)
            rate = rate * torch.where((size > 0) & (slope > 0), trust, torch.ones_like(trust))
        weight.sub_(momentum * rate)
