"""The generator of BigGAN-deep: residual bottleneck blocks whose batch norms are conditioned on z and the class.

Brock, Donahue and Simonyan 2019, "Large scale GAN training for high fidelity natural image synthesis", appendix B,
figure 16. The layers are those of the published TF Hub graph: nearest upsampling, skips that drop channels, one
self-attention with keys and values pooled by 2, and every norm's gain around 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.adversarial.norm import Norm
from caskit.gen.biggan_deep.config import NetworkConfig

REDUCTION = 4  # channels of a block over those of its bottleneck


class ConditionalNorm(nn.Module):
    """A batch norm with gain 1 + scale(c) and offset(c)."""

    def __init__(self, channels: int, config: NetworkConfig, num_statistics: int) -> None:
        super().__init__()
        self.norm = Norm(channels, config.norm_epsilon, num_statistics)
        self.scale = nn.Linear(config.condition_size, channels, bias=False)
        self.offset = nn.Linear(config.condition_size, channels, bias=False)

    def forward(self, maps: Tensor, condition: Tensor) -> Tensor:
        """Normalise maps [N, C, H, W] given conditions [N, condition_size]."""
        normalised: Tensor = self.norm(maps, 1 + self.scale(condition), self.offset(condition))
        return normalised


class Block(nn.Module):
    """A bottleneck of four convolutions beside a skip that drops channels."""

    def __init__(self, inputs: int, outputs: int, doubles: bool, config: NetworkConfig, num_statistics: int) -> None:
        super().__init__()
        middle = inputs // REDUCTION
        self.outputs, self.doubles = outputs, doubles
        self.norms = nn.ModuleList(
            ConditionalNorm(channels, config, num_statistics) for channels in (inputs, middle, middle, middle)
        )
        self.convolutions = nn.ModuleList(
            (
                nn.Conv2d(inputs, middle, 1),
                nn.Conv2d(middle, middle, 3, padding=1),
                nn.Conv2d(middle, middle, 3, padding=1),
                nn.Conv2d(middle, outputs, 1),
            )
        )

    def forward(self, maps: Tensor, condition: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H, W], or to twice the sides."""
        skip = maps[:, : self.outputs]
        for number, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            maps = functional.relu(norm(maps, condition))
            if number == 1 and self.doubles:
                maps = double(maps)
            maps = convolution(maps)
        return maps + (double(skip) if self.doubles else skip)


def double(maps: Tensor) -> Tensor:
    """Repeat every pixel two times in both directions."""
    return functional.interpolate(maps, scale_factor=2, mode="nearest")


class Attention(nn.Module):
    """Self-attention over positions (Zhang et al. 2019), its keys and values pooled by 2; adds `gamma` times it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.key = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.value = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.out = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        query = self.query(maps).flatten(2).transpose(1, 2)
        key = functional.max_pool2d(self.key(maps), 2).flatten(2).transpose(1, 2)
        value = functional.max_pool2d(self.value(maps), 2).flatten(2).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        attended: Tensor = self.out(mixed.transpose(1, 2).reshape(len(maps), -1, *maps.shape[2:]))
        return maps + self.gamma * attended


class Generator(GeneratorNetwork):
    """Images in -1..1 from latent vectors and labels."""

    def __init__(self, config: NetworkConfig, *, num_classes: int, channels: int, num_statistics: int = 1) -> None:
        """Build a generator with weights not yet drawn.

        Args:
            config: its layers.
            num_classes: labels it knows.
            channels: of the images.
            num_statistics: rows of the norms' tables.
        """
        super().__init__()
        self.config, self.latent_size, self.num_classes = config, config.latent_size, num_classes
        first = config.width * config.multipliers[0]
        self.embedding = nn.Embedding(num_classes, config.embedding_size)
        self.first = nn.Linear(config.condition_size, first * config.start_size**2)
        self.blocks = nn.ModuleList(Block(*block, config, num_statistics) for block in config.blocks)
        self.attention = Attention(config.attention_channels) if config.attention_after else None
        last = config.width * config.multipliers[-1]
        self.norm = Norm(last, config.norm_epsilon, num_statistics)
        self.gain, self.offset = nn.Parameter(torch.ones(last)), nn.Parameter(torch.zeros(last))
        self.image = nn.Conv2d(last, channels, 3, padding=1)

    def plain(self) -> "Generator":
        """Return a generator of the same layers, without spectral norms, its weights not yet drawn."""
        return Generator(
            self.config,
            num_classes=self.num_classes,
            channels=self.image.out_channels,
            num_statistics=len(self.norm.means),
        )

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Draw images [N, channels, H, W] from latents [N, latent_size] and labels [N]."""
        condition = torch.cat((latents, self.embedding(labels)), dim=1)
        side = self.config.start_size
        # Channels are the last axis of what `first` gives, as in the published weights: a channels-last map.
        maps = self.first(condition).reshape(len(condition), side, side, -1).permute(0, 3, 1, 2)
        for number, block in enumerate(self.blocks):
            if self.attention is not None and number == 2 * self.config.attention_after:
                maps = self.attention(maps)
            maps = block(maps, condition)
        maps = functional.relu(self.norm(maps, self.gain, self.offset))
        return torch.tanh(self.image(maps))
