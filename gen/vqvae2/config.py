"""What a fit of the family and a sampler of it can be told."""

import dataclasses
import re
from typing import Any

from caskit.gen.autoregressive.config import PriorConfig, check_integer, check_number
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.judge_fitting import JudgeConfig
from caskit.manifests.errors import InputError
from caskit.train.precision import check_precision

TOP, BOTTOM = "top", "bottom"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Everything that decides a fitted generator besides the data.

    Attributes:
        preset: the name the checkpoint is sampled under.
        bottom_stride: 2 or 4, sides of the image over sides of the bottom map; the top map's are half of that.
        channels: of the autoencoder's features.
        residual_blocks, residual_channels: of each of its stacks.
        add_to_activated: a residual block adds to its activated input, as in weights that were trained with
            rosinality/vq-vae-2-pytorch before 2021 (gen/vqvae2/importing.py).
        code_size: dimensions of a code's vector.
        num_codes: of the top level, and of the bottom level where `num_bottom_codes` is 0.
        num_bottom_codes: of the bottom level. Few make the top codes hold the shape, and the bottom ones detail alone.
        commitment: weight of the commitment loss (beta).
        label_loss: weight of the cross entropy of a small classifier that reads the top codes' vectors while the
            autoencoder is trained; 0 has none. It makes the top codes say the class, which a prior then learns sooner.
            Ours, not of VQ-VAE-2 (docs/vqvae2.md).
        codebook_decay: of the codebooks' moving averages.
        revive_below: share of an even use below which a code is moved onto an encoding; 0 never moves one.
        data_start: begin the codebooks with encodings of the first batch; false begins them with normal draws.
        autoencoder, top, bottom: how each stage is trained.
        top_prior, bottom_prior: the networks of the priors.
        mirrored: the priors are fitted to the mirror images as well, for data in which those have the same label; so is
            the autoencoder where it has a label loss.
        shifts: the top prior is fitted to the images shifted by up to this many pixels to all sides as well, told of
            the shift, and sampled without one (gen/autoregressive/variants.py). The top maps of all (2 shifts + 1)^2
            variants are stored while fitting: for sets that it would overfit, not for large ones. The bottom prior has
            more codes per image to learn from and overfits less.
        precision: `float32`, or `bfloat16` for autocast.
        imported_autoencoder: SHA-256 of the file that the autoencoder came from, which is then not trained; None
            trains one.
        judge: a classifier of the images that comes with the checkpoint and says which draws are kept
            (gen/judge_fitting.py); none without a recipe.
        storage: `float32` or `float16`, how the checkpoint holds the weights; they are computed with in float32.
        checkpointing: recompute activations of the priors in the backward pass, for less memory.
        seed: of the initial weights, the order and dropout.
        threads: intra-op threads; the last bits of a fit depend on it.
    """

    preset: str
    bottom_stride: int
    channels: int = 128
    residual_blocks: int = 2
    residual_channels: int = 64
    add_to_activated: bool = False
    code_size: int = 64
    num_codes: int = 512
    num_bottom_codes: int = 0
    commitment: float = 0.25
    label_loss: float = 0.0
    codebook_decay: float = 0.99
    revive_below: float = 0.05
    data_start: bool = True
    autoencoder: StageConfig
    top: StageConfig
    bottom: StageConfig
    top_prior: PriorConfig
    bottom_prior: PriorConfig
    mirrored: bool = False
    shifts: int = 0
    precision: str = "float32"
    imported_autoencoder: str | None = None
    judge: JudgeConfig = dataclasses.field(default_factory=JudgeConfig)
    storage: str = "float32"
    checkpointing: bool = False
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str) or not self.preset:
            raise InputError(f"preset is {self.preset!r}, must be a name")
        if self.autoencoder.optimizer != "adam":
            raise InputError(f"autoencoder.optimizer is {self.autoencoder.optimizer!r}, allowed: adam")
        if self.bottom_stride not in (2, 4):
            raise InputError(f"bottom_stride is {self.bottom_stride!r}, allowed: 2, 4")
        check_precision(self.precision)
        if self.storage not in ("float32", "float16"):
            raise InputError(f"storage is {self.storage!r}, allowed: float32, float16")
        digest = self.imported_autoencoder
        if digest is not None and (not isinstance(digest, str) or re.fullmatch(r"[0-9a-f]{64}", digest) is None):
            raise InputError(f"imported_autoencoder is {digest!r}, must be 64 hex digits")
        for name in ("add_to_activated", "data_start", "mirrored", "checkpointing"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{name} is {getattr(self, name)!r}, allowed: true, false")
        bounds = {
            "channels": (2, 4096),
            "residual_blocks": (0, 64),
            "residual_channels": (1, 4096),
            "code_size": (1, 4096),
            "num_codes": (2, 65535),
            "num_bottom_codes": (0, 65535),
            "shifts": (0, 8),
            "seed": (0, 2**53 - 1),
            "threads": (1, 1024),
        }
        for name, (low, high) in bounds.items():
            check_integer(name, getattr(self, name), low, high)
        if self.num_bottom_codes == 1:
            raise InputError("num_bottom_codes is 1, allowed: 0 (as num_codes), whole numbers 2..65535")
        check_number("commitment", self.commitment, 0.0, 1e3)
        check_number("label_loss", self.label_loss, 0.0, 1e3)
        check_number("codebook_decay", self.codebook_decay, 0.0, 0.999999)
        check_number("revive_below", self.revive_below, 0.0, 0.5)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, those of a checkpoint's record; without a judge its settings are left out."""
        value = dataclasses.asdict(self)
        if not self.judge.recipe:
            del value["judge"]
        return value

    @property
    def level_codes(self) -> dict[str, int]:
        """How many codes each level has."""
        return {TOP: self.num_codes, BOTTOM: self.num_bottom_codes or self.num_codes}

    @property
    def stride(self) -> int:
        """Sides of the image over sides of the top map."""
        return 2 * self.bottom_stride
