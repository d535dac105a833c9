"""A tiny labelled set and a tiny config; under torchrun, `tiny_fit.py OUT [STOP_AFTER]` fits one to the other."""

import dataclasses
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import torch

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.vqvae2 import FitConfig, fit
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import NotFinished
from caskit.train.distributed import joined
from caskit.train.launch import read_launch


class TinySet:
    """What a fit reads of a FrozenSet: three classes of 8x8 images, each a bright row at its own place, in noise."""

    def __init__(self, *, num: int = 96, side: int = 8, content_root: str = "ab" * 32) -> None:
        self.classes = ClassList.from_names(["top", "middle", "bottom"])
        self.replica = SimpleNamespace(content_root=content_root)
        self.store = SimpleNamespace(location="tiny")
        self.split = "train"
        self.channels = 1
        rng = np.random.default_rng(0)
        self.labels = (np.arange(num) % 3).astype(np.int64)
        images = rng.integers(0, 40, size=(num, side, side, 1))
        images[np.arange(num), bright_row(self.labels, side)] += rng.integers(150, 215, size=(num, 1, 1))
        self.images = images.astype(np.uint8)
        self.table = pa.table({"height": [side] * num, "width": [side] * num})

    def __len__(self) -> int:
        return len(self.labels)

    def arrays(self, *, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.images.nbytes <= max_bytes
        return self.images, self.labels


def bright_row(labels: np.ndarray, side: int) -> np.ndarray:
    return 1 + labels * (side // 3)


def tiny_config() -> FitConfig:
    prior = PriorConfig(hidden=16, residual=16, blocks=1, layers=2, embedding=8, heads=2, head_size=4, dropout=0.1)
    return FitConfig(
        preset="tiny",
        bottom_stride=2,
        channels=16,
        residual_blocks=1,
        residual_channels=8,
        code_size=8,
        num_codes=16,
        autoencoder=StageConfig(num_steps=200, batch_size=16, learning_rate=5e-3),
        top=StageConfig(num_steps=240, batch_size=32, learning_rate=1e-2, ema_decay=0.9),
        bottom=StageConfig(num_steps=240, batch_size=32, learning_rate=1e-2),
        top_prior=prior,
        bottom_prior=dataclasses.replace(
            prior, heads=0, condition_layers=1, condition_hidden=8, condition_residual=8, dropout=0.0
        ),
    )


def main() -> None:
    """Fit with the processes of the launch; the first one prints `stopped` if it was told to stop."""
    out, stop_after = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    steps = iter(range(10**6))
    short = {"autoencoder": 40, "top": 25, "bottom": 25}
    config = tiny_config()
    config = dataclasses.replace(
        config,
        **{name: dataclasses.replace(getattr(config, name), num_steps=num) for name, num in short.items()},
        precision="bfloat16",
        checkpointing=True,
    )
    launch = read_launch()
    with joined(launch, torch.device("cpu"), timeout_s=120) as world:
        try:
            fit(
                TinySet(),  # type: ignore[arg-type]
                config,
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
