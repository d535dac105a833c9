"""The generator: residual blocks that double the size, z at the first layer alone, the class in the batch norms alone.

Miyato & Koyama 2018; the layers are those of pfnet-research/sngan_projection (`gen_models/resnet_32.py`), of any number
of blocks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.adversarial.norm import Norm
from caskit.gen.cgan.config import NetworkConfig
from caskit.gen.cgan.layers import DOUBLE, CategoricalNorm, Convolution


class Block(nn.Module):
    """Two convolutions, each after a norm and a ReLU, beside a skip of 1x1; the size doubles."""

    def __init__(self, inputs: int, outputs: int, num_classes: int, epsilon: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(CategoricalNorm(size, num_classes, epsilon) for size in (inputs, outputs))
        self.convolutions = nn.ModuleList((Convolution(inputs, outputs, DOUBLE), Convolution(outputs, outputs)))
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Map [N, inputs, H, W] of labels [N] to [N, outputs, 2H, 2W]."""
        hidden = maps
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            hidden = convolution(functional.relu(norm(hidden, labels)))
        # A convolution of 1x1 may as well stand before the doubling, where there is a quarter to do.
        return hidden + functional.interpolate(self.skip(maps), scale_factor=2, mode="nearest")


class Generator(GeneratorNetwork):
    """Images in -1..1 from latent vectors and labels."""

    def __init__(self, config: NetworkConfig, *, num_classes: int, channels: int) -> None:
        """Build a generator with weights not yet drawn.

        Args:
            config: its layers.
            num_classes: labels it knows.
            channels: of the images.
        """
        super().__init__()
        self.config, self.latent_size, self.num_classes = config, config.latent_size, num_classes
        first, last = config.channels[0], config.channels[-1]
        self.first = nn.Linear(config.latent_size, first * config.start_size**2)
        self.blocks = nn.ModuleList(Block(*block, num_classes, config.norm_epsilon) for block in config.blocks)
        self.norm = Norm(last, config.norm_epsilon, num_statistics=1)
        self.gain, self.offset = nn.Parameter(torch.ones(last)), nn.Parameter(torch.zeros(last))
        self.image = nn.Conv2d(last, channels, 3, padding=1)

    def plain(self) -> "Generator":
        """Return a generator of the same layers, its weights not yet drawn."""
        return Generator(self.config, num_classes=self.num_classes, channels=self.image.out_channels)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Draw images [N, channels, H, W] from latents [N, latent_size] and labels [N]."""
        side = self.config.start_size
        # Channels are the last axis of what `first` gives: a channels-last map, as convolutions want it.
        maps = self.first(latents).reshape(len(latents), side, side, -1).permute(0, 3, 1, 2)
        for block in self.blocks:
            maps = block(maps, labels)
        return torch.tanh(self.image(functional.relu(self.norm(maps, self.gain, self.offset))))
