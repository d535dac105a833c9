"""How one stage of a fit is trained: the config and its learning rate."""

import dataclasses
import math

from caskit.gen.autoregressive.config import OPTIMIZERS, check_integer, check_number
from caskit.manifests.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Steps, batches and the rate: linear warm-up, then a cosine to zero.

    Attributes:
        num_steps: optimizer steps.
        batch_size: images per step, over all processes.
        learning_rate: its peak.
        warmup: share of the steps that the rate takes to its peak.
        ema_decay: of the moving average of the weights that is kept; 0 keeps the weights themselves.
        optimizer: `adam`, or for priors `muon` (gen/autoregressive/optimizers.py).
    """

    num_steps: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup: float = 0.1
    ema_decay: float = 0.0
    optimizer: str = "adam"

    def __post_init__(self) -> None:
        check_integer("num_steps", self.num_steps, 1, 10**9)
        check_integer("batch_size", self.batch_size, 2, 65536)
        check_number("learning_rate", self.learning_rate, 1e-9, 10.0)
        check_number("warmup", self.warmup, 0.0, 1.0)
        check_number("ema_decay", self.ema_decay, 0.0, 0.999999)
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer is {self.optimizer!r}, allowed: {', '.join(OPTIMIZERS)}")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: a linear warm-up to the peak, then half a cosine down to zero."""
        warmup = max(1, round(self.warmup * self.num_steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.num_steps - warmup)
        return 0.5 * self.learning_rate * (1 + math.cos(math.pi * progress))
