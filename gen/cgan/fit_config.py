"""What a fit of the family can be told."""

import dataclasses

from torch import nn

from caskit.gen.adversarial.config import GanConfig
from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.adversarial.spectral import normalise
from caskit.gen.autoregressive.config import check_number
from caskit.gen.cgan.config import NetworkConfig
from caskit.gen.cgan.discriminator import Discriminator
from caskit.gen.cgan.generator import Generator
from caskit.gen.cgan.layers import draw_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig(GanConfig):
    """Everything that decides a fitted generator besides the data; what is not set is that of Miyato & Koyama 2018.

    Five updates of the discriminator, Adam of rate 2e-4 and betas 0 and 0.9, rates that fall linearly from the first
    step on (configs/sn_cifar10.yml of pfnet-research/sngan_projection). They keep no average (`ema_decay` 0).

    Attributes:
        network: the layers of both networks.
        second_beta: Adam's.
    """

    network: NetworkConfig
    second_beta: float = 0.9
    discriminator_steps: int = 5
    generator_rate: float = 2e-4
    discriminator_rate: float = 2e-4
    decay_after: float = 0.0
    adam_epsilon: float = 1e-8
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("second_beta", self.second_beta, 0.0, 0.999999)

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's, of both networks."""
        return 0.0, self.second_beta

    @property
    def image_size(self) -> int:
        """Sides of the images."""
        return self.network.image_size

    def build(self, *, num_classes: int, channels: int) -> tuple[Generator, Discriminator]:
        """Return generator and discriminator, weights not yet drawn."""
        generator = Generator(self.network, num_classes=num_classes, channels=channels)
        return generator, Discriminator(self.network, num_classes=num_classes, channels=channels)

    def prepare(self, generator: GeneratorNetwork, discriminator: nn.Module) -> None:
        """Draw the weights; the discriminator's have spectral norms, its embedding too, the generator's have none."""
        assert isinstance(discriminator, Discriminator), "a discriminator of `build`"
        draw_weights(generator)
        draw_weights(discriminator)
        nn.init.xavier_uniform_(discriminator.embedding.weight)
        normalise(discriminator, self.network.norm_epsilon)
