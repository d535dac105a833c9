"""The discriminator of BigGAN-deep: the generator's stages in reverse, and a projection of the class.

Brock et al. 2019, appendix B, figure 16 and tables 7-9: the first block of a stage halves the size by an average pool
and adds channels, which its skip gets from a convolution of 1x1 beside the old ones; there are no norms. The score is
`w h + b + <e(y), h>` (Miyato & Koyama 2018), h summed over positions.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.adversarial.projection import projected_scores
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.network import REDUCTION, Attention


class Block(nn.Module):
    """A bottleneck of four convolutions beside a skip that adds channels."""

    def __init__(self, inputs: int, outputs: int, halves: bool) -> None:
        super().__init__()
        middle = outputs // REDUCTION
        self.halves = halves
        self.convolutions = nn.ModuleList(
            (
                nn.Conv2d(inputs, middle, 1),
                nn.Conv2d(middle, middle, 3, padding=1),
                nn.Conv2d(middle, middle, 3, padding=1),
                nn.Conv2d(middle, outputs, 1),
            )
        )
        self.skip = nn.Conv2d(inputs, outputs - inputs, 1) if outputs > inputs else None

    def forward(self, maps: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H, W], or to half the sides."""
        skip = functional.avg_pool2d(maps, 2) if self.halves else maps
        if self.skip is not None:
            skip = torch.cat((skip, self.skip(skip)), dim=1)
        for number, convolution in enumerate(self.convolutions):
            maps = functional.relu(maps)
            if number == 3 and self.halves:
                maps = functional.avg_pool2d(maps, 2)
            maps = convolution(maps)
        return maps + skip


class Discriminator(nn.Module):
    """Scores of images in -1..1 with their labels: positive for real ones."""

    def __init__(self, config: NetworkConfig, *, width: int, num_classes: int, channels: int) -> None:
        """Build a discriminator with weights not yet drawn.

        Args:
            config: the generator's layers.
            width: the unit of the multipliers here.
            num_classes: labels it knows.
            channels: of the images.
        """
        super().__init__()
        sizes = [width * multiplier for multiplier in reversed(config.multipliers)]
        self.first = nn.Conv2d(channels, sizes[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            block
            for inputs, outputs in itertools.pairwise(sizes)
            for block in (Block(inputs, outputs, halves=True), Block(outputs, outputs, halves=False))
        )
        # The map that the generator's attention reads has these sides here too.
        self.attention_after = 2 * (config.num_stages - config.attention_after) if config.attention_after else 0
        self.attention = Attention(sizes[self.attention_after // 2]) if config.attention_after else None
        self.score = nn.Linear(sizes[-1], 1)
        self.embedding = nn.Embedding(num_classes, sizes[-1])

    def features(self, images: Tensor) -> Tensor:
        """Return h [N, C] of images [N, channels, H, W]."""
        maps = self.first(images)
        for number, block in enumerate(self.blocks):
            if self.attention is not None and number == self.attention_after:
                maps = self.attention(maps)
            maps = block(maps)
        # Sums of positive numbers over positions: in half precision they would lose what is small.
        return functional.relu(maps).float().sum(dim=(2, 3))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Score images [N, channels, H, W] with labels [N]: [N] float32."""
        return projected_scores(self.features(images), labels, self.score, self.embedding)
