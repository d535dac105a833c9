"""What the training of a GAN knows of its generator."""

import abc

import torch
from torch import Tensor, nn


class GeneratorNetwork(nn.Module, abc.ABC):
    """Images in -1..1 from latent vectors and labels; its batch norms are `norm.Norm`.

    Attributes:
        latent_size: dimensions of z.
        num_classes: labels it knows.
    """

    latent_size: int
    num_classes: int

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @abc.abstractmethod
    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Draw images [N, channels, H, W] from latents [N, latent_size] and labels [N]."""

    @abc.abstractmethod
    def plain(self) -> "GeneratorNetwork":
        """Return a generator of the same layers on the CPU, without spectral norms, its weights not yet drawn."""
