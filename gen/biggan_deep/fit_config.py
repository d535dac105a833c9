"""What a fit of the family can be told."""

import dataclasses

from torch import nn

from caskit.gen.adversarial.config import GanConfig
from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.adversarial.orthogonal import draw_weights
from caskit.gen.adversarial.spectral import normalise
from caskit.gen.autoregressive.config import check_integer
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.discriminator import Discriminator
from caskit.gen.biggan_deep.network import Generator
from caskit.manifests.errors import InputError

BETAS = (0.0, 0.999)  # of Adam (Brock et al. 2019, appendix C)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig(GanConfig):
    """Everything that decides a fitted generator besides the data.

    Attributes:
        network: the generator's layers. The discriminator has them in reverse.
        discriminator_width: the unit of its multipliers.
    """

    network: NetworkConfig
    discriminator_width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        network, width = self.network, self.discriminator_width
        check_integer("discriminator_width", width, 1, 1024)
        if width * network.multipliers[-1] < 4:
            raise InputError(f"discriminator_width is {width}, times multipliers' last: a block needs 4 channels")
        if network.attention_after and width * network.multipliers[network.attention_after] < 8:
            raise InputError(f"discriminator_width is {width}: attention needs 8 channels")

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's, of both networks."""
        return BETAS

    @property
    def image_size(self) -> int:
        """Sides of the images."""
        return self.network.image_size

    def build(self, *, num_classes: int, channels: int) -> tuple[Generator, Discriminator]:
        """Return generator and discriminator, weights not yet drawn."""
        generator = Generator(self.network, num_classes=num_classes, channels=channels)
        discriminator = Discriminator(
            self.network, width=self.discriminator_width, num_classes=num_classes, channels=channels
        )
        return generator, discriminator

    def prepare(self, generator: GeneratorNetwork, discriminator: nn.Module) -> None:
        """Draw orthogonal weights; all have spectral norms but the generator's embedding."""
        assert isinstance(generator, Generator), "a generator of `build`"
        draw_weights(generator)
        normalise(generator, self.network.norm_epsilon, keep=generator.embedding)
        draw_weights(discriminator)
        normalise(discriminator, self.network.norm_epsilon)
