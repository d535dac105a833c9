"""What a network of the family is, and what a sampler of it can be told."""

import dataclasses
import itertools
from typing import Any

from caskit.gen.autoregressive.config import check_integer, check_number
from caskit.manifests.errors import InputError

Z_MODES = ("scale", "resample")
BN_INTERPOLATIONS = ("corrected", "as-published")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The generator's layers (Brock et al. 2019, appendix B, figure 16 and tables 7-9).

    A stage is a block that keeps the size and a block that doubles it, so images have sides `start_size * 2^stages`.

    Attributes:
        width: the unit of the multipliers (ch).
        multipliers: channels in units of `width`: of the first map, then of what each stage gives.
        attention_after: number of stages before the self-attention; 0 has none.
        start_size: sides of the first map.
        latent_size: dimensions of z.
        embedding_size: dimensions of a class's vector.
        norm_epsilon: added to variances; also what spectral norms divide by at least.
    """

    width: int = 128
    multipliers: tuple[int, ...]
    attention_after: int = 4
    start_size: int = 4
    latent_size: int = 128
    embedding_size: int = 128
    norm_epsilon: float = 1e-4

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", tuple(self.multipliers))  # a list where it comes from JSON
        bounds = {"width": (1, 1024), "start_size": (1, 64), "latent_size": (1, 4096), "embedding_size": (1, 4096)}
        for name, (low, high) in bounds.items():
            check_integer(name, getattr(self, name), low, high)
        if not 2 <= len(self.multipliers) <= 12:
            raise InputError(f"multipliers are {len(self.multipliers)}, allowed: 2..12, for 1 to 11 stages")
        for place, multiplier in enumerate(self.multipliers):
            check_integer("multipliers", multiplier, 1, 64)
            if place and multiplier > self.multipliers[place - 1]:
                raise InputError(f"multipliers grow from {self.multipliers[place - 1]} to {multiplier}, allowed: never")
            if multiplier * self.width < 4:
                raise InputError(f"multipliers hold {multiplier}, times width {self.width}: a block needs 4 channels")
        check_integer("attention_after", self.attention_after, 0, self.num_stages - 1)
        if self.attention_after and (self.attention_channels < 8 or self.attention_size % 2):
            raise InputError(
                f"attention_after is {self.attention_after}: attention needs 8 channels and even sides, the map there "
                f"has {self.attention_channels} channels and sides of {self.attention_size}"
            )
        check_number("norm_epsilon", self.norm_epsilon, 1e-12, 1.0)

    @property
    def num_stages(self) -> int:
        """How often the size doubles."""
        return len(self.multipliers) - 1

    @property
    def image_size(self) -> int:
        """Sides of the images."""
        return self.start_size << self.num_stages

    @property
    def condition_size(self) -> int:
        """Dimensions of what a layer is conditioned on: z and the class's vector."""
        return self.latent_size + self.embedding_size

    @property
    def attention_channels(self) -> int:
        """Channels of the map that the attention reads."""
        return self.width * self.multipliers[self.attention_after]

    @property
    def attention_size(self) -> int:
        """Sides of it."""
        return self.start_size << self.attention_after

    @property
    def blocks(self) -> list[tuple[int, int, bool]]:
        """Channels in, channels out and whether it doubles the size, of each block."""
        sizes = [self.width * multiplier for multiplier in self.multipliers]
        pairs = itertools.pairwise(sizes)
        return [block for before, after in pairs for block in ((before, before, False), (before, after, True))]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, as a checkpoint's config holds them."""
        return {**dataclasses.asdict(self), "multipliers": list(self.multipliers)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a generator is sampled: the law of z, and whose batch-norm statistics are used.

    Attributes:
        z_scale: the truncation. With `scale` z is `z_scale` times a normal truncated to -2..2, what the published code
            does; 1.5 is the paper's best.
        z_mode: `scale`, or `resample`: a normal truncated to `-2 z_scale .. 2 z_scale`, what the footnote of the paper
            says. Both are the same law at 1.
        bn_truncation: for weights with a table of statistics over truncations in 0..1, the entry to use; None takes
            that of z_scale and the last one, 1, for larger ones. Weights with one set of statistics take none.
        bn_interpolation: between the table's entries: `corrected`, or `as-published`, whose two weights are swapped.
    """

    z_scale: float = 1.0
    z_mode: str = "scale"
    bn_truncation: float | None = None
    bn_interpolation: str = "corrected"

    def __post_init__(self) -> None:
        check_number("z_scale", self.z_scale, 1e-3, 100.0)
        if self.bn_truncation is not None:
            check_number("bn_truncation", self.bn_truncation, 0.0, 1.0)
        for name, allowed in (("z_mode", Z_MODES), ("bn_interpolation", BN_INTERPOLATIONS)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}, allowed: {', '.join(allowed)}")
