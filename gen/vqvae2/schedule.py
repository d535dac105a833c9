"""The learning rate of a stage."""

import math

from caskit.gen.vqvae2.config import StageConfig


def learning_rate(step: int, config: StageConfig) -> float:
    """Return the rate of a step: a linear warm-up to the peak, then half a cosine down to zero."""
    warmup = max(1, round(config.warmup * config.num_steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return 0.5 * config.learning_rate * (1 + math.cos(math.pi * (step - warmup) / max(1, config.num_steps - warmup)))
