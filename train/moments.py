"""Mean and variance of a batch that is divided among the processes of a run, for batch norms; gradients flow through.

A batch norm whose moments are those of one process's share depends on how many processes there are, and on a small
share it is noisy: "cross-replica" batch norm (Brock et al. 2019, appendix C) takes them over all shares.
"""

from typing import Any

import torch
from torch import Tensor

from caskit.train.distributed import World


class RankMoments:
    """Mean and biased variance, [C] each and float32, of maps [N, C, H, W] over the shares of all processes.

    Every process has to call it with a share of the same size. A loss of one process then depends on the maps of all of
    them, and the backward pass, too, is one that all of them run alike: it gives the gradient of the sum of all losses.
    """

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moments."""
        variance, mean = torch.var_mean(maps.float(), dim=(0, 2, 3), correction=0)
        if self.world.size == 1:
            return mean, variance
        # All pairs are gathered, not summed: E[x^2] - E[x]^2 would lose what is small beside the mean.
        means, variances = _Gather.apply(torch.stack((mean, variance)), self.world).unbind(dim=1)
        mean = means.mean(dim=0)
        return mean, variances.mean(dim=0) + (means - mean).square().mean(dim=0)


class _Gather(torch.autograd.Function):
    """The tensors of all ranks, stacked; what comes back to a rank's tensor is summed over all ranks."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, world: World) -> Tensor:
        """Stack."""
        ctx.world = world
        gathered = tensor.new_zeros(world.size, *tensor.shape)
        gathered[world.rank] = tensor
        return world.sum_(gathered)  # zeros elsewhere, so these are the bits of each rank

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        """Add up."""
        total: Tensor = ctx.world.sum_(gradients[0].contiguous().clone())
        return total[ctx.world.rank], None
