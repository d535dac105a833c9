"""What a fit of the family can be told."""

import dataclasses
from typing import Any

from caskit.gen.autoregressive.config import PriorConfig, check_integer, check_number
from caskit.gen.autoregressive.stage import StageConfig
from caskit.manifests.errors import InputError
from caskit.train.precision import check_precision

FEEDFORWARD, MSP = "feedforward", "msp"
AUXILIARIES = (FEEDFORWARD, MSP)
STRIDES = (2, 4, 8, 16)
PIXELS = "pixels"  # the lowest map


def level_name(number: int) -> str:
    """Return the name of the codes of level 1, 2, ..., counted from the pixels up."""
    return f"codes{number}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelConfig:
    """One discrete autoencoder: an encoder and its codes, the auxiliary decoder, the autoregressive decoder.

    Attributes:
        stride: sides of what it encodes (the image, or the codes of the level below) over sides of its map.
        auxiliary: the decoder that the encoder is trained through: `feedforward` decodes the codes to what was encoded,
            `msp` predicts the encoder's own features of masked boxes (masked self-prediction).
        channels: of the encoder's features and the auxiliary decoder's.
        residual_blocks, residual_channels: of each of their stacks.
        embedding: dimensions in which the encoder reads a code of the level below; of no use at level 1.
        code_size: dimensions of a code's vector.
        num_codes: of the level.
        commitment: weight of the commitment loss.
        codebook_decay: of the codebook's moving averages.
        revive_below: share of an even use below which a code is moved onto an encoding; 0 never moves one.
        mask: largest side of a masked box over the map's, for `msp`.
        spread: weight of what keeps the predicted features apart, for `msp`.
        abstraction: how encoder, codes and auxiliary decoder are trained.
        decoding: how the autoregressive decoder is trained.
        decoder: the network of the autoregressive decoder, over what the level encodes.
        upsamplings: learned doublings of the condition before it enters the autoregressive decoder; a decoder's
            position reads the nearest place of what they give.
    """

    stride: int
    auxiliary: str = FEEDFORWARD
    channels: int = 128
    residual_blocks: int = 2
    residual_channels: int = 64
    embedding: int = 64
    code_size: int = 64
    num_codes: int = 512
    commitment: float = 0.25
    codebook_decay: float = 0.99
    revive_below: float = 0.05
    mask: float = 0.6
    spread: float = 1.0
    abstraction: StageConfig
    decoding: StageConfig
    decoder: PriorConfig
    upsamplings: int = 0

    def __post_init__(self) -> None:
        if self.stride not in STRIDES:
            raise InputError(f"stride is {self.stride!r}, allowed: {', '.join(map(str, STRIDES))}")
        if self.auxiliary not in AUXILIARIES:
            raise InputError(f"auxiliary is {self.auxiliary!r}, allowed: {', '.join(AUXILIARIES)}")
        bounds = {
            "channels": (2, 4096),
            "residual_blocks": (0, 64),
            "residual_channels": (1, 4096),
            "embedding": (1, 4096),
            "code_size": (1, 4096),
            "num_codes": (2, 65535),
            "upsamplings": (0, self.stride.bit_length() - 1),
        }
        for name, (low, high) in bounds.items():
            check_integer(name, getattr(self, name), low, high)
        check_number("commitment", self.commitment, 0.0, 1e3)
        check_number("codebook_decay", self.codebook_decay, 0.0, 0.999999)
        check_number("revive_below", self.revive_below, 0.0, 0.5)
        check_number("mask", self.mask, 0.01, 1.0)
        check_number("spread", self.spread, 0.0, 1e3)
        if self.abstraction.optimizer != "adam":
            raise InputError(f"abstraction.optimizer is {self.abstraction.optimizer!r}, allowed: adam")
        if not self.decoder.condition_layers:
            raise InputError("decoder.condition_layers is 0, must be 1 at least: it decodes codes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Everything that decides a fitted generator besides the data.

    Attributes:
        preset: the name the checkpoint is sampled under.
        levels: from the pixels up.
        prior: how the prior over the codes of the last level is trained.
        prior_network: its network.
        mirrored: decoders and prior are fitted to the mirror images as well, for data in which those have the same
            label.
        shifts: the prior is fitted to the codes of images shifted by up to this many pixels to all sides as well, told
            of the shift, and sampled without one (gen/autoregressive/variants.py). The codes of all (2 shifts + 1)^2
            variants are stored while fitting: for sets that a prior would overfit, not for large ones.
        precision: `float32`, or `bfloat16` for autocast.
        storage: `float32` or `float16`, how the checkpoint holds the weights; they are computed with in float32.
        checkpointing: recompute activations of decoders and prior in the backward pass, for less memory.
        seed: of the initial weights, the order, masks and dropout.
        threads: intra-op threads; the last bits of a fit depend on it.
    """

    preset: str
    levels: tuple[LevelConfig, ...]
    prior: StageConfig
    prior_network: PriorConfig
    mirrored: bool = False
    shifts: int = 0
    precision: str = "float32"
    storage: str = "float32"
    checkpointing: bool = False
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str) or not self.preset:
            raise InputError(f"preset is {self.preset!r}, must be a name")
        if not 1 <= len(self.levels) <= 8:
            raise InputError(f"levels are {len(self.levels)}, allowed: 1..8")
        if self.prior_network.condition_layers:
            raise InputError(
                f"prior_network.condition_layers is {self.prior_network.condition_layers}, the last level has no map "
                "above: 0"
            )
        check_precision(self.precision)
        if self.storage not in ("float32", "float16"):
            raise InputError(f"storage is {self.storage!r}, allowed: float32, float16")
        for name in ("mirrored", "checkpointing"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{name} is {getattr(self, name)!r}, allowed: true, false")
        check_integer("shifts", self.shifts, 0, 8)
        check_integer("seed", self.seed, 0, 2**53 - 1)
        check_integer("threads", self.threads, 1, 1024)

    @property
    def stride(self) -> int:
        """Sides of the image over sides of the last level's map."""
        return self.strides[-1]

    @property
    def strides(self) -> tuple[int, ...]:
        """Sides of the image over sides of each level's map."""
        found, product = [], 1
        for level in self.levels:
            product *= level.stride
            found.append(product)
        return tuple(found)


def config_of(values: dict[str, Any]) -> FitConfig:
    """Return the config with these JSON values. Raises InputError, TypeError or KeyError for others than its fields."""
    levels = []
    for fields in values["levels"]:
        nested = {name: StageConfig(**fields[name]) for name in ("abstraction", "decoding")}
        levels.append(LevelConfig(**{**fields, **nested, "decoder": PriorConfig(**fields["decoder"])}))
    nested_fields: dict[str, Any] = {
        "levels": tuple(levels),
        "prior": StageConfig(**values["prior"]),
        "prior_network": PriorConfig(**values["prior_network"]),
    }
    return FitConfig(**{**values, **nested_fields})
