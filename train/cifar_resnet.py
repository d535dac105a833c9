"""The residual networks for 32x32 images of He et al. 2015 (arXiv 1512.03385), section 4.2; timm has none of them."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights: every second pixel, new channels zero (their option A)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride, self.new = (1 if inputs == outputs else 2), outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=self.stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        hidden = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(maps)))))
        kept = maps[:, :, :: self.stride, :: self.stride]
        return functional.relu(hidden + functional.pad(kept, (0, 0, 0, 0, 0, self.new)))


class CifarResNet(nn.Module):
    """A 3x3 convolution, three stages of blocks with 16, 32 and 64 channels, a mean, a linear layer.

    Args:
        depth: layers with weights, 6n + 2 for n blocks per stage.
        num_classes: of the logits.
        channels: of the images.
        dropout: before the last layer; the paper has none.
    """

    def __init__(self, depth: int, num_classes: int, channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        assert depth >= 8 and depth % 6 == 2, f"depth {depth}, must be 6n + 2"
        num_blocks = (depth - 2) // 6
        self.conv = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTHS[0])
        widths = [WIDTHS[0], *(width for width in WIDTHS for _ in range(num_blocks))]
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in itertools.pairwise(widths)))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(WIDTHS[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # their reference 13, He et al. 2015b
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, channels, H, W] to logits [N, num_classes]."""
        features = self.blocks(functional.relu(self.norm(self.conv(images))))
        # A mean, as its gradient is deterministic on GPUs.
        logits: Tensor = self.head(self.dropout(torch.mean(features, dim=(2, 3))))
        return logits
