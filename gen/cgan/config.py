"""What a network of the family is, and what a sampler of it can be told."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from caskit.gen.autoregressive.config import check_integer, check_number
from caskit.manifests.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The layers of both networks (Miyato & Koyama 2018), as pfnet-research/sngan_projection has them.

    Every block of the generator doubles the size, so images have sides `start_size * 2^blocks`.

    Attributes:
        channels: of the generator's first map, then of what each of its blocks gives.
        discriminator_channels: of what each block of the discriminator gives.
        halvings: so many of those, the first ones, halve the size.
        start_size: sides of the generator's first map.
        latent_size: dimensions of z.
        norm_epsilon: added to variances; also what spectral norms divide by at least.
    """

    channels: tuple[int, ...]
    discriminator_channels: tuple[int, ...]
    halvings: int = 2
    start_size: int = 4
    latent_size: int = 128
    norm_epsilon: float = 2e-5

    def __post_init__(self) -> None:
        for name, (low, high) in {"channels": (2, 10), "discriminator_channels": (1, 16)}.items():
            sizes = tuple(getattr(self, name))
            object.__setattr__(self, name, sizes)  # a list where it comes from JSON
            if not low <= len(sizes) <= high:
                raise InputError(f"{name} are {len(sizes)}, allowed: {low}..{high}")
            for size in sizes:
                check_integer(name, size, 1, 8192)
        check_integer("start_size", self.start_size, 1, 64)
        check_integer("latent_size", self.latent_size, 1, 4096)
        check_integer("halvings", self.halvings, 1, min(len(self.channels) - 1, len(self.discriminator_channels)))
        check_number("norm_epsilon", self.norm_epsilon, 1e-12, 1.0)

    @property
    def image_size(self) -> int:
        """Sides of the images."""
        return self.start_size << len(self.channels) - 1

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Channels in and out of each block of the generator."""
        return list(itertools.pairwise(self.channels))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a generator is sampled.

    Attributes:
        z_scale: z is so many times a standard normal; norms keep the statistics of 1.
    """

    z_scale: float = 1.0

    def __post_init__(self) -> None:
        check_number("z_scale", self.z_scale, 1e-3, 100.0)


def network_of(config: Mapping[str, Any]) -> NetworkConfig:
    """Return the layers that a checkpoint's config states. Raises InputError for one of another form."""
    try:
        return NetworkConfig(**config["network"])
    except (KeyError, TypeError) as error:
        raise InputError(f"config: network is not that of this family ({error})") from error
