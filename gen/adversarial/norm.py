"""A batch norm of a generator, with statistics in a table beside the moments of a batch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Moments = Callable[[Tensor], tuple[Tensor, Tensor]]


def batch_moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance, [C] each, over a batch of maps [N, C, H, W]."""
    variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
    return mean, variance


class Norm(nn.Module):
    """A batch norm whose gain and offset the caller gives.

    In training it normalises by the moments of the batch, which `moments` computes, and hands them to `observe`. In
    evaluation it uses row `row` of its tables, which training does not touch (statistics.py fills and mixes them).

    Attributes:
        means, variances: [S, C], one row per truncation for which there are statistics.
    """

    means: Tensor
    variances: Tensor

    def __init__(self, channels: int, epsilon: float, num_statistics: int) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.moments: Moments = batch_moments
        self.observe: Callable[[Tensor, Tensor], None] | None = None
        self.row = 0
        self.register_buffer("means", torch.zeros(num_statistics, channels))
        self.register_buffer("variances", torch.ones(num_statistics, channels))

    def forward(self, maps: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
        """Normalise maps [N, C, H, W]; gain and offset [N, C] or [C]."""
        if self.training:
            mean, variance = self.moments(maps)
            if self.observe is not None:
                self.observe(mean, variance)
        else:
            mean, variance = self.means[self.row], self.variances[self.row]
        slope = gain * torch.rsqrt(variance + self.epsilon)
        return torch.addcmul(_maps(offset - mean * slope), maps, _maps(slope))


def _maps(values: Tensor) -> Tensor:
    return values[..., None, None]
