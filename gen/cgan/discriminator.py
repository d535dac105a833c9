"""The discriminator: residual blocks without norms, and a projection of the class.

Miyato & Koyama 2018; the layers are those of pfnet-research/sngan_projection (`dis_models/snresnet_32.py`), of any
number of blocks. Every layer has a spectral norm while training (adversarial/spectral.py).
"""

from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.adversarial.projection import projected_scores
from caskit.gen.cgan.config import NetworkConfig
from caskit.gen.cgan.layers import HALVE, SAME, Convolution


class Block(nn.Module):
    """Two convolutions beside a skip; the first block of all takes the image without a ReLU before."""

    def __init__(self, inputs: int, outputs: int, *, halves: bool, first: bool) -> None:
        super().__init__()
        self.halves, self.first = halves, first
        middle = outputs if first else inputs
        self.convolutions = nn.ModuleList(
            (Convolution(inputs, middle), Convolution(middle, outputs, HALVE if halves else SAME))
        )
        self.skip = nn.Conv2d(inputs, outputs, 1) if halves or inputs != outputs else None

    def forward(self, maps: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H, W], or to half the sides."""
        hidden: Tensor = self.convolutions[0](maps if self.first else functional.relu(maps))
        hidden = self.convolutions[1](functional.relu(hidden))
        # Averages and a convolution of 1x1 may change places; after the average there is a quarter to do.
        skip = functional.avg_pool2d(maps, 2) if self.halves else maps
        return hidden + (skip if self.skip is None else self.skip(skip))


class Discriminator(nn.Module):
    """Scores of images in -1..1 with their labels: positive for real ones."""

    def __init__(self, config: NetworkConfig, *, num_classes: int, channels: int) -> None:
        """Build a discriminator with weights not yet drawn.

        Args:
            config: its layers.
            num_classes: labels it knows.
            channels: of the images.
        """
        super().__init__()
        sizes = (channels, *config.discriminator_channels)
        self.blocks = nn.ModuleList(
            Block(sizes[place], sizes[place + 1], halves=place < config.halvings, first=place == 0)
            for place in range(len(config.discriminator_channels))
        )
        self.score = nn.Linear(sizes[-1], 1, bias=False)
        self.embedding = nn.Embedding(num_classes, sizes[-1])

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Score images [N, channels, H, W] with labels [N]: [N] float32."""
        maps = images
        for block in self.blocks:
            maps = block(maps)
        # Sums of positive numbers over positions: in half precision they would lose what is small.
        features = functional.relu(maps).float().sum(dim=(2, 3))
        return projected_scores(features, labels, self.score, self.embedding)
