"""A tiny labelled set, a tiny fit of it, and the streams to sample it with."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from caskit.gen.cvae import FitConfig, fit
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList
from caskit.manifests.seeds import stream_key


class TinySet:
    """What a fit reads of a FrozenSet: three classes of 8x8 images, each a bright row at its own place, in noise."""

    def __init__(self, *, num: int = 96, side: int = 8, content_root: str = "ab" * 32) -> None:
        self.classes = ClassList.from_names(["top", "middle", "bottom"])
        self.replica = SimpleNamespace(content_root=content_root)
        rng = np.random.default_rng(0)
        self.labels = (np.arange(num) % 3).astype(np.int64)
        images = rng.integers(0, 40, size=(num, side, side, 1))
        images[np.arange(num), bright_row(self.labels, side)] += rng.integers(150, 215, size=(num, 1, 1))
        self.images = images.astype(np.uint8)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return self.images, self.labels


def bright_row(labels: np.ndarray, side: int) -> np.ndarray:
    return 1 + labels * (side // 3)


@pytest.fixture(scope="session")
def tiny_set() -> Callable[..., TinySet]:
    return TinySet


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., FitConfig]:
    base = FitConfig(
        preset="tiny",
        latent_size=4,
        label_size=3,
        encoder_width=4,
        decoder_stem=4,
        decoder_coarse=8,
        decoder_middle=8,
        decoder_fine=4,
        num_steps=120,
        batch_size=16,
        learning_rate=0.01,
        mixture_components=2,
        mixture_steps=6,
        threads=1,
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
    return fit(TinySet(), tiny_config(), folder, device=torch.device("cpu"))
