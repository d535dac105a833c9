"""The layers that both networks are made of."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.adversarial.norm import Norm

SAME, DOUBLE, HALVE = "same", "double", "halve"


class Convolution(nn.Conv2d):
    """A 3x3 convolution of a residual path; of a map doubled before by repeating, or halved after by averages.

    Doubling and halving are part of one 4x4 kernel, whose taps are sums of the 3x3 kernel's: 4/9 of the arithmetic,
    the same map.
    """

    def __init__(self, inputs: int, outputs: int, resizing: str = SAME) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.resizing = resizing

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H', W']."""
        weight = self.weight
        if self.resizing == DOUBLE:
            kernel = spread(weight.transpose(0, 1).flip(2, 3))
            return functional.conv_transpose2d(input, kernel, self.bias, stride=2, padding=1)
        if self.resizing == HALVE:
            return functional.conv2d(input, spread(weight) / 4, self.bias, stride=2, padding=1)
        return functional.conv2d(input, weight, self.bias, padding=1)


def spread(kernel: Tensor) -> Tensor:
    """Add up a kernel [..., 3, 3] and its shifts by one in either and both directions: [..., 4, 4]."""
    rows = functional.pad(kernel, (0, 0, 0, 1)) + functional.pad(kernel, (0, 0, 1, 0))
    return functional.pad(rows, (0, 1)) + functional.pad(rows, (1, 0))


class CategoricalNorm(nn.Module):
    """A batch norm with a gain and an offset per class and channel (Dumoulin et al. 2017), 1 and 0 at first."""

    def __init__(self, channels: int, num_classes: int, epsilon: float) -> None:
        super().__init__()
        self.norm = Norm(channels, epsilon, num_statistics=1)
        self.gains, self.offsets = nn.Embedding(num_classes, channels), nn.Embedding(num_classes, channels)
        nn.init.ones_(self.gains.weight)
        nn.init.zeros_(self.offsets.weight)

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Normalise maps [N, C, H, W] of labels [N]."""
        normalised: Tensor = self.norm(maps, self.gains(labels), self.offsets(labels))
        return normalised


@torch.no_grad()
def draw_weights(network: nn.Module) -> None:
    """Draw all convolutions and matrices uniform (Glorot & Bengio 2010), residual paths times sqrt 2; biases are 0.

    As pfnet-research/sngan_projection does.
    """
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(part.weight, math.sqrt(2) if isinstance(part, Convolution) else 1.0)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
