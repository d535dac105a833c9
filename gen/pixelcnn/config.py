"""What a fit of the family can be told."""

import dataclasses

from caskit.gen.autoregressive.config import PriorConfig, check_integer
from caskit.gen.autoregressive.stage import StageConfig
from caskit.manifests.errors import InputError
from caskit.train.precision import check_precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Everything that decides a fitted generator besides the data.

    Attributes:
        preset: the name the checkpoint is sampled under.
        network: the layers. Causal convolutions over pixels and the gates are those of van den Oord et al. 2016; with
            `heads` it has the attention of PixelSNAIL too.
        stage: how it is trained.
        mirrored: it is fitted to the mirror images as well, for data in which those have the same label.
        precision: `float32`, or `bfloat16` for autocast.
        storage: `float32` or `float16`, how the checkpoint holds the weights; they are computed with in float32.
        checkpointing: recompute activations in the backward pass, for less memory.
        seed: of the initial weights, the order and dropout.
        threads: intra-op threads; the last bits of a fit depend on it.
    """

    preset: str
    network: PriorConfig
    stage: StageConfig
    mirrored: bool = False
    precision: str = "float32"
    storage: str = "float32"
    checkpointing: bool = False
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str) or not self.preset:
            raise InputError(f"preset is {self.preset!r}, must be a name")
        if self.network.condition_layers:
            raise InputError(
                f"network.condition_layers is {self.network.condition_layers}, pixels have no map above: 0"
            )
        check_precision(self.precision)
        if self.storage not in ("float32", "float16"):
            raise InputError(f"storage is {self.storage!r}, allowed: float32, float16")
        for name in ("mirrored", "checkpointing"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{name} is {getattr(self, name)!r}, allowed: true, false")
        check_integer("seed", self.seed, 0, 2**53 - 1)
        check_integer("threads", self.threads, 1, 1024)
