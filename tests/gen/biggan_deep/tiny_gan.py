"""A tiny labelled set and a tiny fit; under torchrun, `tiny_gan.py OUT [STOP_AFTER]` fits one to the other."""

import dataclasses
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from caskit.gen.adversarial.config import CollapseConfig, StandingConfig
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.fit_config import FitConfig
from caskit.gen.biggan_deep.fitting import fit
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import NotFinished
from caskit.train.distributed import World, joined
from caskit.train.launch import read_launch
from caskit.train.moments import RankMoments

CPU = torch.device("cpu")


class TinySet:
    """What a fit reads of a FrozenSet: three classes of 8x8 images, each a bright row at its own place, in noise."""

    def __init__(self, *, num: int = 96, side: int = 8, content_root: str = "ab" * 32) -> None:
        self.classes = ClassList.from_names(["top", "middle", "bottom"])
        self.replica = SimpleNamespace(content_root=content_root)
        self.store = SimpleNamespace(location="tiny")
        self.channels = 1
        rng = np.random.default_rng(0)
        self.labels = (np.arange(num) % 3).astype(np.int64)
        images = rng.integers(0, 40, size=(num, side, side, 1))
        images[np.arange(num), 1 + self.labels * (side // 3)] += rng.integers(100, 215, size=(num, 1, 1))
        self.images = images.astype(np.uint8)
        self.table = pa.table({"height": [side] * num, "width": [side] * num})

    def __len__(self) -> int:
        return len(self.labels)

    def arrays(self, *, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.images.nbytes <= max_bytes
        return self.images, self.labels


def tiny_config(**changes: Any) -> FitConfig:
    """Two stages with attention between them, so that every kind of layer is trained."""
    network = NetworkConfig(
        width=8, multipliers=(2, 1, 1), attention_after=1, start_size=2, latent_size=6, embedding_size=3
    )
    base = FitConfig(
        preset="tiny",
        network=network,
        discriminator_width=8,
        num_steps=24,
        batch_size=16,
        accumulation=2,
        discriminator_steps=2,
        generator_rate=2e-3,
        discriminator_rate=2e-3,
        decay_after=0.5,
        ema_decay=0.9,
        ema_start=3,
        orthogonal=1e-3,
        mirrored=True,
        collapse=CollapseConfig(check_every=8, grace=8, window=10, min_diversity=0.0, max_diversity=1e3),
        standing=StandingConfig(num_batches=3, batch_size=16),
    )
    return dataclasses.replace(base, **changes)


def check_moments(world: World) -> None:
    """Compare moments of shares, and the gradients that come back through them, with those of the whole batch."""
    torch.manual_seed(5)
    whole = 10 + torch.randn(8, 3, 4, 4)
    weights = torch.randn(8, 3, 4, 4)
    share = world.share(8)

    def loss(maps: Tensor, moments: Any, weight: Tensor) -> Tensor:
        mean, variance = moments(maps)
        return (((maps - mean[:, None, None]) / (variance[:, None, None] + 1e-4).sqrt()).sin() * weight).sum()

    alone = whole.clone().requires_grad_()
    loss(alone, RankMoments(World()), weights).backward()  # type: ignore[no-untyped-call]
    part = whole[share].clone().requires_grad_()
    moments = RankMoments(world)
    for ours, theirs in zip(moments(part), RankMoments(World())(whole), strict=True):
        torch.testing.assert_close(ours, theirs)
    loss(part, moments, weights[share]).backward()  # type: ignore[no-untyped-call]
    assert alone.grad is not None and part.grad is not None
    torch.testing.assert_close(part.grad, alone.grad[share], rtol=1e-4, atol=1e-5)


def check_averages(world: World) -> None:
    """Gradients become averages; one that is missing counts as zeros."""
    first, second = torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4))
    first.grad = torch.full((2, 3), float(world.rank))
    world.average_gradients([first, second])
    assert first.grad.tolist() == [[(world.size - 1) / 2] * 3] * 2
    assert second.grad is not None and second.grad.tolist() == [0.0] * 4


def main() -> None:
    """Check and fit with the processes of the launch; the first one prints `stopped` if it was told to stop."""
    out, stop_after = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    steps = iter(range(10**6))
    config = tiny_config(num_steps=10, precision="bfloat16")
    with joined(read_launch(), CPU, timeout_s=120) as world:
        assert world.size == 2
        check_moments(world)
        check_averages(world)
        try:
            fit(TinySet(), config, out, device=CPU, stop=lambda: next(steps) == stop_after, world=world)  # type: ignore[arg-type]
        except NotFinished:
            if world.first:
                print("stopped")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # as the command line does: destructors of C++ libraries abort some processes at their very end
