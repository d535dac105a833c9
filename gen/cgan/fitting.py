"""Fitting a generator to a frozen set."""

from collections.abc import Callable
from pathlib import Path

import torch

from caskit.gen.adversarial.fitting import fit_gan
from caskit.gen.cgan.fit_config import FitConfig
from caskit.shards.dataset import FrozenSet
from caskit.train.distributed import World
from caskit.train.engine import ALONE, Progress

NAME = "cgan"


def fit(
    data: FrozenSet,
    config: FitConfig,
    out: Path,
    *,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    world: World = ALONE,
) -> Path:
    """Fit a generator and write its checkpoint to `out`, see `adversarial.fitting.fit_gan`."""
    return fit_gan(data, config, out, family=NAME, device=device, progress=progress, stop=stop, world=world)
