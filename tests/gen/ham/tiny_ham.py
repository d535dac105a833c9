"""A tiny config of two levels; under torchrun, `tiny_ham.py OUT [STOP_AFTER]` fits it to the tiny set of vqvae2."""

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import torch

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.ham import FitConfig, fit
from caskit.gen.ham.config import LevelConfig
from caskit.manifests.errors import NotFinished
from caskit.train.distributed import joined
from caskit.train.launch import read_launch

SHARED = Path(__file__).parents[1] / "vqvae2" / "tiny_fit.py"
CONDITION = {"condition_layers": 1, "condition_hidden": 12, "condition_residual": 12}


def load_shared() -> Any:
    """Import the script of vqvae2's tests, which is in no package."""
    spec = importlib.util.spec_from_file_location("shared_tiny_fit", SHARED)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny_level(stride: int = 2, **changes: Any) -> LevelConfig:
    base = LevelConfig(
        stride=stride,
        channels=16,
        residual_blocks=1,
        residual_channels=8,
        embedding=8,
        code_size=8,
        num_codes=16,
        abstraction=StageConfig(num_steps=150, batch_size=16, learning_rate=5e-3),
        decoding=StageConfig(num_steps=160, batch_size=16, learning_rate=1e-2, ema_decay=0.9),
        decoder=PriorConfig(
            hidden=16, residual=16, blocks=1, layers=2, embedding=8, rows_above=2, dropout=0.0, **CONDITION
        ),
        upsamplings=1,
    )
    return dataclasses.replace(base, **changes)


def tiny_config(**changes: Any) -> FitConfig:
    """Two levels of feed-forward auxiliary decoders: 4x4 codes, and 2x2 codes of those."""
    base = FitConfig(
        preset="tiny",
        levels=(tiny_level(), tiny_level(upsamplings=0, num_codes=12)),
        prior=StageConfig(num_steps=200, batch_size=32, learning_rate=1e-2, ema_decay=0.9),
        prior_network=PriorConfig(
            hidden=16, residual=16, blocks=1, layers=2, embedding=8, heads=2, head_size=4, dropout=0.1
        ),
    )
    return dataclasses.replace(base, **changes)


def shortened(config: FitConfig, num_steps: int) -> FitConfig:
    """Return a config whose every stage takes so many steps."""
    levels = tuple(
        dataclasses.replace(
            level,
            abstraction=dataclasses.replace(level.abstraction, num_steps=num_steps),
            decoding=dataclasses.replace(level.decoding, num_steps=num_steps),
        )
        for level in config.levels
    )
    return dataclasses.replace(config, levels=levels, prior=dataclasses.replace(config.prior, num_steps=num_steps))


def main() -> None:
    """Fit with the processes of the launch; the first one prints `stopped` if it was told to stop."""
    out, stop_after = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    steps = iter(range(10**6))
    config = tiny_config(
        levels=(tiny_level(auxiliary="msp"), tiny_level(upsamplings=0, num_codes=12)), checkpointing=True
    )
    with joined(read_launch(), torch.device("cpu"), timeout_s=120) as world:
        try:
            fit(
                load_shared().TinySet(),
                shortened(dataclasses.replace(config, precision="bfloat16"), 20),
                out,
                device=torch.device("cpu"),
                stop=lambda: next(steps) == stop_after,
                world=world,
            )
        except NotFinished:
            if world.first:
                print("stopped")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # as the command line does: destructors of C++ libraries abort some processes at their very end
