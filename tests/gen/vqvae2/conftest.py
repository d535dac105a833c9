"""A tiny labelled set, a tiny fit of it, and the streams to sample it with."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.streams import Streams
from caskit.gen.vqvae2 import FitConfig, Settings, Vqvae2Generator, fit, load
from caskit.gen.vqvae2.config import StageConfig
from caskit.manifests.classes import ClassList
from caskit.manifests.seeds import stream_key


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


@pytest.fixture(scope="session")
def tiny_set() -> Callable[..., TinySet]:
    return TinySet


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., FitConfig]:
    prior = PriorConfig(hidden=16, residual=16, blocks=1, layers=2, embedding=8, heads=2, head_size=4, dropout=0.1)
    base = FitConfig(
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
    return lambda **changes: dataclasses.replace(base, **changes)


@pytest.fixture(scope="session")
def make_streams() -> Callable[..., Streams]:
    def make(labels: np.ndarray, *, seed: int = 0, first: int = 0) -> Streams:
        return Streams([stream_key(seed, int(label), first + i, 0) for i, label in enumerate(labels)])

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., FitConfig]) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "tiny"
    return fit(TinySet(), tiny_config(), folder, device=torch.device("cpu"))  # type: ignore[arg-type]


@pytest.fixture
def generator(tiny_checkpoint: Path) -> Vqvae2Generator:
    return load(load_checkpoint(tiny_checkpoint), Settings(), torch.device("cpu"))
